//! How fast AES-256-GCM seals and opens one 4 KiB block, library by library, on one core.
//!
//! Rounds are interleaved and the median of each counts, so that other work on the machine
//! falls on all of them alike. Blocks come from a buffer larger than the caches nearest to the
//! core, as they do in the SSD; every block has a nonce of its own. What is opened is compared
//! with what was sealed before anything is timed.

mod libraries;

use std::time::Instant;

use libraries::Cipher;

/// The SSD's block, in bytes.
const BLOCK_BYTES: usize = 4096;
/// Blocks in the buffer: 4 MiB, a segment.
const BLOCKS: usize = 1024;
/// How often the buffer is gone through in one round.
const PASSES: u32 = 8;
/// Rounds; the median is printed.
const ROUNDS: usize = 15;

/// Nanoseconds per block of sealing and of opening, one round.
fn round(cipher: &mut dyn Cipher, data: &mut [u8], tags: &mut [[u8; 16]], first: u64) -> [f64; 2] {
    let mut spent = [0.0; 2];
    for pass in 0..u64::from(PASSES) {
        let nonce = |slot: usize| nonce(first + pass, slot);
        let began = Instant::now();
        for (slot, (block, tag)) in data
            .chunks_exact_mut(BLOCK_BYTES)
            .zip(&mut *tags)
            .enumerate()
        {
            cipher.seal(&nonce(slot), &number(slot), block, tag);
        }
        let sealed = Instant::now();
        for (slot, (block, tag)) in data.chunks_exact_mut(BLOCK_BYTES).zip(&*tags).enumerate() {
            assert!(
                cipher.open(&nonce(slot), &number(slot), block, tag),
                "a block did not open"
            );
        }
        spent[0] += (sealed - began).as_secs_f64();
        spent[1] += sealed.elapsed().as_secs_f64();
    }
    spent.map(|seconds| seconds * 1e9 / (f64::from(PASSES) * BLOCKS as f64))
}

/// Generation and slot, as in the SSD's format.
fn nonce(generation: u64, slot: usize) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&generation.to_le_bytes());
    nonce[8..].copy_from_slice(&(slot as u32).to_le_bytes());
    nonce
}

/// Associated data: kind and block number.
fn number(slot: usize) -> [u8; 9] {
    let mut data = [0; 9];
    data[1..].copy_from_slice(&(slot as u64).to_le_bytes());
    data
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut ciphers = libraries::all(&[0x5a; 32]);
    let plain: Vec<u8> = (0..BLOCKS * BLOCK_BYTES)
        .map(|i| (i * 31 / 8) as u8)
        .collect();
    let mut data = plain.clone();
    let mut tags = vec![[0; 16]; BLOCKS];
    let mut results = vec![[Vec::new(), Vec::new()]; ciphers.len()];
    let mut generation = 1;
    let reference = libraries::reference(&mut ciphers, &plain[..BLOCK_BYTES]);
    for number in 0..=ROUNDS {
        for (cipher, result) in ciphers.iter_mut().zip(&mut results) {
            let spent = round(&mut **cipher, &mut data, &mut tags, generation);
            generation += u64::from(PASSES);
            assert!(data == plain, "{} changed the data", cipher.name());
            // The first round warms up.
            if number > 0 {
                result[0].push(spent[0]);
                result[1].push(spent[1]);
            }
        }
    }
    println!("AES-256-GCM, 4 KiB, one core, median of {ROUNDS} rounds; {reference}");
    println!(
        "{:<44} {:>10} {:>9} {:>10} {:>9}",
        "", "seal ns", "GB/s", "open ns", "GB/s"
    );
    for (cipher, [seal, open]) in ciphers.iter().zip(results) {
        let [seal, open] = [median(seal), median(open)];
        let speed = |nanoseconds: f64| BLOCK_BYTES as f64 / nanoseconds;
        println!(
            "{:<44} {seal:>10.0} {:>9.2} {open:>10.0} {:>9.2}",
            cipher.name(),
            speed(seal),
            speed(open)
        );
    }
}
