//! Makes two module files for readers that are not this library: formats them, works on them as
//! a seed says, and prints the key and the anchor. Blocks are numbered in the file of contents
//! as on the disk.
//!
//! `image MODULE0 MODULE1 CONTENTS SEED SEGMENT_SLOTS stop|cut|adopt`; with `adopt` the last
//! session is an adoption, and is stopped.

use std::fs::{File, OpenOptions};
use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use flash::{Anchors, BLOCK_BYTES, FileMedium, Flash, Geometry, Options, VolumeKey};
use zeroize::Zeroizing;

const BLOCKS: usize = 700;
const STEPS: usize = 900;
const SESSIONS: usize = 3;

/// An anchor in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Option<Vec<u8>>>>);

impl Anchors for Memory {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().map_err(|_| io::ErrorKind::Other)?.clone())
    }

    fn store(&self, _sequence: u64, anchor: &[u8]) -> io::Result<()> {
        *self.0.lock().map_err(|_| io::ErrorKind::Other)? = Some(anchor.to_vec());
        Ok(())
    }
}

/// Xorshift64 (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One step: the same on the disk and in `contents`.
fn step<M: flash::Medium, A: Anchors>(
    flash: &Flash<M, A>,
    contents: &mut [u8],
    random: &mut Random,
) -> Result<(), flash::Error> {
    let (sectors, longest) = (contents.len() / 512, [1, 8, 8, 64][random.below(4)]);
    let length = 512 * longest;
    // Half of the work on a fifth of the disk, so that blocks are overwritten.
    let span = if random.below(2) == 0 {
        sectors / 5
    } else {
        sectors
    };
    let at = random.below(span - longest) * 512;
    match random.below(10) {
        0 => flash.flush()?,
        1 => {
            flash.discard(at as u64, length as u64)?;
            contents[at..at + length].fill(0);
        }
        _ => {
            let data = random.bytes(length);
            flash.write(at as u64, &data)?;
            contents[at..at + length].copy_from_slice(&data);
        }
    }
    Ok(())
}

fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [zero, one, plain, seed, slots, end] = arguments else {
        return Err(
            "usage: image MODULE0 MODULE1 CONTENTS SEED SEGMENT_SLOTS stop|cut|adopt".into(),
        );
    };
    let open = |path: &String| -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };
    let mut random = Random(seed.parse::<u64>()? + 1);
    let key: [u8; 32] = std::array::from_fn(|_| random.next() as u8);
    let volume_key = || VolumeKey::new(Zeroizing::new(key));
    let medium = || -> io::Result<FileMedium> {
        Ok(FileMedium::new([open(zero)?.into(), open(one)?.into()]))
    };
    let anchors = Memory::default();
    let geometry = Geometry {
        blocks: BLOCKS as u64,
        segment_slots: slots.parse()?,
    };
    flash::format(&medium()?, &anchors, &volume_key(), geometry)?;
    let mut contents = vec![0; BLOCKS * BLOCK_BYTES];
    let mut earlier = None;
    for session in 0..SESSIONS {
        let options = Options::default();
        let vault = anchors.clone();
        earlier = anchors.load()?;
        let last = session + 1 == SESSIONS;
        let flash = if last && end == "adopt" {
            Flash::adopt(medium()?, vault, volume_key(), options)?
        } else {
            Flash::open(medium()?, vault, volume_key(), options)?
        };
        for _ in 0..STEPS / SESSIONS {
            step(&flash, &mut contents, &mut random)?;
        }
        if last && end == "cut" {
            flash.flush()?;
        } else {
            flash.close()?;
        }
    }
    std::fs::write(plain, &contents)?;
    println!("key {}", hex(&key));
    println!("anchor {}", hex(&anchors.load()?.unwrap_or_default()));
    println!("earlier {}", hex(&earlier.unwrap_or_default()));
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error}");
            ExitCode::FAILURE
        }
    }
}
