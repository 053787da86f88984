//! The queues: requests taken from the rings, answers put back.
//!
//! Invariants: a ring is held while its requests are carried out, so that stopping a queue waits
//! for them; a ring that is broken is left alone until the next kick; nothing in guest memory
//! makes this panic or spin.

use std::io;
use std::ops::Deref as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringMutex, VringState, VringT as _};
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;
use virtio_queue::{QueueOwnedT as _, QueueT as _};
use vm_memory::{GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::chain::Parts;
use super::config::{self, QUEUE_SIZE_MAX, QUEUES};
use super::disk::{Disk, PIECE_BYTES};
use crate::device::BlockDevice;

/// The guest's memory, as it is at the moment.
pub type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// The event that ends a queue's thread; numbers below it are taken.
pub const STOP_EVENT: u16 = QUEUES as u16 + 1;
/// The guest hears of finished requests once they have moved so many bytes, or none is waiting.
const NOTIFY_BYTES: u64 = 64 * 1024;
/// Requests that are taken before others get a chance to stop the queue.
const TURN_REQUESTS: usize = QUEUE_SIZE_MAX;

/// The disk as vhost-user sees it.
pub struct Backend {
    device: Arc<dyn BlockDevice>,
    memory: Memory,
    guest_flushes: AtomicBool,
    queues: Vec<Mutex<Scratch>>,
}

/// What a queue's thread keeps from one request to the next.
#[derive(Default)]
struct Scratch {
    parts: Parts,
    buffer: Vec<u8>,
}

enum Turn {
    /// Nothing is waiting.
    Idle,
    /// More may be waiting.
    Again,
}

impl Backend {
    /// For one connection.
    pub fn new(device: Arc<dyn BlockDevice>, memory: Memory) -> Backend {
        Backend {
            device,
            memory,
            guest_flushes: AtomicBool::new(false),
            queues: (0..QUEUES).map(|_| Mutex::default()).collect(),
        }
    }

    /// Carries out what is waiting in a ring.
    fn drain(&self, ring: &VringMutex<Memory>, scratch: &mut Scratch) {
        scratch.buffer.resize(PIECE_BYTES, 0);
        loop {
            let turn = self.turn(&mut ring.get_mut(), scratch);
            match turn {
                Ok(Turn::Again) => std::thread::yield_now(),
                // A broken ring is the guest's own; the next kick finds it mended or not.
                Ok(Turn::Idle) | Err(()) => return,
            }
        }
    }

    /// One turn at a ring that is held by the caller.
    fn turn(&self, ring: &mut VringState<Memory>, scratch: &mut Scratch) -> Result<Turn, ()> {
        if !ring.is_enabled() || !ring.get_queue().ready() {
            return Ok(Turn::Idle);
        }
        let memory = self.memory.memory();
        ring.disable_notification().map_err(drop)?;
        let mut disk = Disk {
            device: &*self.device,
            guest_flushes: self.guest_flushes.load(Ordering::Relaxed),
            buffer: &mut scratch.buffer,
        };
        let (mut done, mut untold) = (0, 0);
        while done < TURN_REQUESTS {
            let chain = {
                let mut available = ring.get_queue_mut().iter(memory.deref()).map_err(drop)?;
                available.next()
            };
            let Some(chain) = chain else { break };
            let head = chain.head_index();
            let taken = scratch.parts.take(chain);
            let moved = scratch.parts.readable.left() + scratch.parts.writable.left();
            let written = disk.answer(memory.deref(), &mut scratch.parts, taken);
            // A head outside the ring cannot be given back.
            if ring.add_used(head, written).is_ok() {
                untold += moved;
            }
            done += 1;
            if untold >= NOTIFY_BYTES {
                notify(ring)?;
                untold = 0;
            }
        }
        if done > 0 {
            notify(ring)?;
        }
        let more = ring.enable_notification().map_err(drop)?;
        // A ring that claims to hold more and yields nothing is broken.
        Ok(if more && done > 0 {
            Turn::Again
        } else {
            Turn::Idle
        })
    }
}

/// Tells the guest of finished requests, if it wants to hear of them.
fn notify(ring: &mut VringState<Memory>) -> Result<(), ()> {
    if ring.needs_notification().map_err(drop)? {
        ring.signal_used_queue().map_err(drop)?;
    }
    Ok(())
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringMutex<Memory>;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE_MAX
    }

    fn features(&self) -> u64 {
        config::FEATURES | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn acked_features(&self, features: u64) {
        let flushes = features & 1 << VIRTIO_BLK_F_FLUSH != 0;
        self.guest_flushes.store(flushes, Ordering::Relaxed);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&self, _enabled: bool) {
        // Each ring knows it by itself.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::read(self.device.capacity_bytes(), offset, size)
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn update_memory(&self, _memory: Memory) -> io::Result<()> {
        // It is the one that this end was made with.
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        (0..QUEUES).map(|queue| 1 << queue).collect()
    }

    fn handle_event(
        &self,
        event: u16,
        _events: EventSet,
        rings: &[VringMutex<Memory>],
        thread: usize,
    ) -> io::Result<()> {
        if event == STOP_EVENT {
            // The way to end a queue's thread.
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let (Some(ring), Some(scratch)) =
            (rings.get(usize::from(event)), self.queues.get(thread))
        {
            let mut scratch = scratch.lock().unwrap_or_else(|lock| lock.into_inner());
            self.drain(ring, &mut scratch);
        }
        Ok(())
    }
}
