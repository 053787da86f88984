//! The SSD's controller: two bare modules become one sealed, fresh, crash-safe disk.
//!
//! What it guarantees and how is in `docs/flash-format.md`. In short: everything is written once,
//! sealed, to the end of a log of segments; an index of sealed nodes says where each block is; a
//! chain of records makes the log whole again after a power cut; the vault remembers the newest
//! record, so that nothing older is taken for the disk.
//!
//! | module | what it does |
//! |---|---|
//! | `flash` | the disk as front ends see it: locking, reading |
//! | `state` | what writes and trims change, in one order; `checkpoint`, `cleaner` (and what is done when idle), `status` add to it |
//! | `recovery`, `walk` | formatting; opening, after a clean stop and after a power cut |
//! | `adoption` | opening without an anchor that fits, where the owner allows it |
//! | `log`, `index`, `segments`, `session` | the parts of the state |
//! | `header`, `superblock`, `anchor`, `record`, `body`, `layout` | the bytes |
//! | `cipher` | AES-256-GCM and the keys; the only unsafe code |
//! | `medium` | what it stands on: two files, and the vault's memory |

mod adoption;
pub mod anchor;
pub mod body;
mod bytes;
mod checkpoint;
mod cipher;
mod cleaner;
mod error;
mod flash;
pub mod header;
mod index;
pub mod layout;
mod log;
mod medium;
pub mod record;
mod recovery;
mod segments;
mod session;
mod state;
mod status;
pub mod superblock;
mod walk;

pub use cipher::{Cipher, CipherFailed, KEY_BYTES, Kind, Place, SALT_BYTES, VolumeKey};
pub use error::{Error, OpenError, Which};
pub use flash::{Flash, Options};
pub use index::LOST_SLOT;
pub use layout::{BLOCK_BYTES, Geometry, SECTOR_BYTES};
pub use medium::{Anchors, FileMedium, Medium};
pub use recovery::format;
pub use status::{Extent, Status, Verified};

/// The constants that decide when what is done; `docs/flash-format.md` explains them.
pub mod policy {
    pub use crate::cleaner::{GARBAGE_DIVISOR, SLACK_SEGMENTS};
    pub use crate::segments::{
        KEPT_SEGMENTS, RESERVE_SEGMENTS, SPARE_DIVISOR, limit, usable_slots,
    };
    pub use crate::state::{
        CHANGES_MAX, CHANGES_MIN, CHANGES_PART, CHECKPOINT_SEGMENTS, GENERATIONS_MAX,
        MOVING_SEGMENTS,
    };
}
