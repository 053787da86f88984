//! What would make a connection wait is done by these, so that the host's disk gets more than one
//! request at a time.
//!
//! Invariants: a fixed number of threads; a job is answered exactly once; after
//! [`Workers::end`] the jobs at hand are finished and the rest is dropped.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::connection::Pending;
use super::protocol::*;
use super::{PIECE_BYTES, Reply};
use crate::device::BlockDevice;

/// Threads that wait for the host's disk, for all connections together.
pub const WORKERS: usize = 16;
/// Jobs that may wait for a worker; with more the connection waits by itself.
pub const JOBS_MAX: usize = 256;

/// Something that takes its time.
pub struct Job {
    /// Who gets the reply.
    pub connection: Pending,
    /// The request's cookie.
    pub cookie: u64,
    /// What is to be done.
    pub work: Work,
}

/// What a worker does.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Read and reply, or what is left of a request whose first chunks were sent.
    Read {
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        length: u32,
        /// How it is replied.
        reply: Reply,
    },
    /// Make what was written lasting.
    Flush,
}

struct Queue {
    jobs: VecDeque<Job>,
    ended: bool,
}

struct Shared {
    device: Arc<dyn BlockDevice>,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// The threads and their queue.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// When the host gives no more threads.
    pub fn start(device: Arc<dyn BlockDevice>) -> io::Result<Workers> {
        let mut workers = Workers {
            shared: Arc::new(Shared {
                device,
                queue: Mutex::new(Queue {
                    jobs: VecDeque::new(),
                    ended: false,
                }),
                arrived: Condvar::new(),
            }),
            threads: Vec::with_capacity(WORKERS),
        };
        for _ in 0..WORKERS {
            let shared = workers.shared.clone();
            let thread = std::thread::Builder::new().name("nbd worker".into());
            workers.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(workers)
    }

    /// Leaves a job to them; gives it back where too many wait.
    pub fn leave(&self, job: Job) -> Option<Job> {
        let mut queue = self.shared.lock();
        if queue.ended || queue.jobs.len() >= JOBS_MAX {
            return Some(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.arrived.notify_one();
        None
    }

    /// Does a job on the caller's own thread.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn do_here(&self, job: &Job) -> io::Result<()> {
        perform(&*self.shared.device, job)
    }
}

impl Drop for Workers {
    /// Returns when all threads have ended.
    fn drop(&mut self) {
        let dropped = {
            let mut queue = self.shared.lock();
            queue.ended = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(dropped);
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    fn work(&self) {
        loop {
            let mut queue = self.lock();
            let job = loop {
                if queue.ended {
                    return;
                }
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                queue = self
                    .arrived
                    .wait(queue)
                    .unwrap_or_else(|lock| lock.into_inner());
            };
            drop(queue);
            if perform(&*self.device, &job).is_err() {
                job.connection.end();
            }
        }
    }
}

fn perform(device: &dyn BlockDevice, job: &Job) -> io::Result<()> {
    match job.work {
        Work::Flush => {
            let error = device.flush().err().map_or(0, error_number);
            job.connection.send(&simple_reply(job.cookie, error))
        }
        Work::Read {
            offset,
            length,
            reply: Reply::Simple,
        } => read_whole(device, job, offset, length as usize),
        Work::Read {
            offset,
            length,
            reply: Reply::Structured,
        } => read_in_chunks(device, job, offset, length as usize),
    }
}

/// Behind a simple reply's header there is no way to say that the rest could not be read.
fn read_whole(device: &dyn BlockDevice, job: &Job, offset: u64, length: usize) -> io::Result<()> {
    let mut reply = vec![0; SIMPLE_REPLY_BYTES + length];
    let (header, data) = reply.split_at_mut(SIMPLE_REPLY_BYTES);
    let sent = match device.read(offset, data) {
        Ok(()) => {
            header.copy_from_slice(&simple_reply(job.cookie, 0));
            &reply[..]
        }
        Err(errno) => {
            header.copy_from_slice(&simple_reply(job.cookie, error_number(errno)));
            &reply[..SIMPLE_REPLY_BYTES]
        }
    };
    job.connection.send(sent)
}

fn read_in_chunks(
    device: &dyn BlockDevice,
    job: &Job,
    offset: u64,
    length: usize,
) -> io::Result<()> {
    let mut chunk = vec![0; DATA_HEADER_BYTES + length.min(PIECE_BYTES)];
    let mut done = 0;
    while done < length {
        let piece = PIECE_BYTES.min(length - done);
        let at = offset + done as u64;
        let chunk = &mut chunk[..DATA_HEADER_BYTES + piece];
        let (header, data) = chunk.split_at_mut(DATA_HEADER_BYTES);
        if let Err(errno) = device.read(at, data) {
            let number = error_number(errno);
            return job.connection.send(&error_chunk(job.cookie, number));
        }
        done += piece;
        let flags = if done == length { CHUNK_FLAG_DONE } else { 0 };
        header.copy_from_slice(&data_header(flags, job.cookie, at, piece as u32));
        job.connection.send(chunk)?;
    }
    Ok(())
}
