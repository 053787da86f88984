//! The proofs of the SSD's controller; each file attacks one promise. One program, because they
//! share the medium, the model and the driver.
//!
//! `FLASH_LONG=1` makes them exhaustive where they are samples, `FLASH_SEEDS=first..end` chooses
//! the seeds of the random ones.

#![allow(
    missing_docs,
    reason = "tests say what they promise where they need to"
)]

mod accepted;
mod adoption;
mod cipher;
mod damage;
mod exhaust;
mod failures;
mod flips;
mod fuzz;
mod pressure;
mod rollback;
mod seeds;
#[path = "../support/mod.rs"]
mod support;
mod together;
