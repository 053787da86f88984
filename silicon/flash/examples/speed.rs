//! How fast the controller is by itself, without front ends: `speed FOLDER GIB`.
//!
//! Makes two modules in the folder, fills four fifths of a disk of so many GiB, overwrites it at
//! random twice, and prints for each step the rate, the time per call and the longest call. What
//! `bench ssd` measures beyond this is the protocol's.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use flash::{Anchors, BLOCK_BYTES, FileMedium, Flash, Geometry, Options, VolumeKey, format};
use zeroize::Zeroizing;

const MIB: usize = 1 << 20;
const RANDOM_CALLS: u64 = 500_000;
const FLUSHES: u64 = 100_000;

/// A vault that forgets at the end.
#[derive(Default)]
struct Memory(Mutex<Option<Vec<u8>>>);

impl Anchors for &Memory {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().expect("nobody panicked").clone())
    }

    fn store(&self, _: u64, anchor: &[u8]) -> io::Result<()> {
        *self.0.lock().expect("nobody panicked") = Some(anchor.to_vec());
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, gib] = &arguments[..] else {
        eprintln!("usage: speed FOLDER GIB");
        std::process::exit(2);
    };
    let bytes = gib.parse::<u64>().expect("GIB is a number") << 30;
    let folder = Path::new(folder);
    let medium = || {
        FileMedium::new(["flash-0.module", "flash-1.module"].map(|name| file(&folder.join(name))))
    };
    let key = || VolumeKey::new(Zeroizing::new([7; 32]));
    let vault = Memory::default();
    format(&medium(), &&vault, &key(), Geometry::for_capacity(bytes)).expect("the disk is made");
    let open = || Flash::open(medium(), &vault, key(), Options::default()).expect("it opens");
    let disk = open();
    measure(&disk, bytes);
    let begun = Instant::now();
    drop(disk);
    let disk = open();
    println!("opening after a power cut: {:.1?}", begun.elapsed());
    disk.close().expect("it closes");
    let begun = Instant::now();
    drop(open());
    println!("opening after a clean stop: {:.1?}", begun.elapsed());
}

fn file(path: &Path) -> OwnedFd {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).expect("the module is made").into()
}

fn measure(disk: &Flash<FileMedium, &Memory>, bytes: u64) {
    let data = vec![5; MIB];
    let mut buffer = vec![0; MIB];
    let pieces = bytes * 4 / 5 / MIB as u64;
    let blocks = pieces * (MIB / BLOCK_BYTES) as u64;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        // xorshift64: good enough to spread accesses.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % blocks * BLOCK_BYTES as u64
    };
    let write = |at: u64| disk.write(at, &data).expect("written");
    step("filling, 1 MiB", pieces, MIB, |n| write(n * MIB as u64));
    for age in ["new", "aged"] {
        step(&format!("{age}: read 1 MiB"), pieces, MIB, |n| {
            disk.read(n * MIB as u64, &mut buffer).expect("read");
        });
        let small = &data[..BLOCK_BYTES];
        step(
            &format!("{age}: read 4 KiB at random"),
            RANDOM_CALLS,
            BLOCK_BYTES,
            |_| {
                disk.read(random(), &mut buffer[..BLOCK_BYTES])
                    .expect("read");
            },
        );
        step(
            &format!("{age}: write 4 KiB at random"),
            RANDOM_CALLS,
            BLOCK_BYTES,
            |_| {
                disk.write(random(), small).expect("written");
            },
        );
        step(
            &format!("{age}: the same, flushed"),
            FLUSHES,
            BLOCK_BYTES,
            |_| {
                disk.write(random(), small).expect("written");
                disk.flush().expect("flushed");
            },
        );
        if age == "new" {
            step(
                "overwriting twice at random",
                2 * blocks,
                BLOCK_BYTES,
                |_| {
                    disk.write(random(), small).expect("written");
                },
            );
        } else {
            step("aged: write 1 MiB", pieces, MIB, |n| write(n * MIB as u64));
        }
    }
    let status = disk.status();
    let amplification = status.slots_written as f64 / status.host_written_blocks as f64;
    println!("write amplification {amplification:.2}, {status:?}");
}

fn step(name: &str, calls: u64, bytes: usize, mut call: impl FnMut(u64)) {
    let begun = Instant::now();
    let mut longest = 0.0_f64;
    for number in 0..calls {
        let called = Instant::now();
        call(number);
        longest = longest.max(called.elapsed().as_secs_f64());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = calls as f64 * bytes as f64 / seconds / 1e6;
    let each = seconds / calls as f64 * 1e6;
    println!(
        "{name:<32} {rate:>6.0} MB/s {each:>9.2} µs a call, longest {:>7.2} ms",
        longest * 1e3
    );
}
