//! A guest: memory in two regions with a gap, and one ring in it.

use std::sync::Arc;

use vhost_user_backend::{VhostUserBackend as _, VringMutex, VringT as _};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use crate::device::ram::Ram;
use crate::virtio::backend::{Backend, Memory};

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

pub const RING_SIZE: u16 = 16;
pub const TABLE: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x2000;
pub const USED: u64 = 0x3000;
pub const INDIRECT_TABLE: u64 = 0x8000;
pub const HEADER: u64 = 0x1_0000;
pub const STATUS: u64 = 0x1_1000;
pub const DATA: u64 = 0x2_0000;
/// Between the two regions there is nothing.
pub const REGIONS: [(u64, usize); 2] = [(0, 1 << 20), (0x20_0000, 1 << 20)];

pub const OK: u8 = 0;
pub const IOERR: u8 = 1;
pub const UNSUPP: u8 = 2;
/// What stands in the status byte before the disk has said anything.
pub const UNTOLD: u8 = 0xee;

pub struct Guest {
    pub ram: Arc<Ram>,
    pub memory: Memory,
    pub backend: Backend,
    pub ring: VringMutex<Memory>,
    next: u16,
}

impl Guest {
    pub fn new(capacity: usize) -> Guest {
        let regions = REGIONS.map(|(start, size)| (GuestAddress(start), size));
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
        let ram = Arc::new(Ram::new(capacity));
        let backend = Backend::new(ram.clone(), memory.clone());
        backend.acked_features(backend.features());
        let ring = VringMutex::new(memory.clone(), 1024).unwrap();
        ring.set_queue_size(RING_SIZE);
        ring.set_queue_info(TABLE, AVAILABLE, USED).unwrap();
        ring.set_queue_ready(true);
        ring.set_enabled(true);
        Guest {
            ram,
            memory,
            backend,
            ring,
            next: 0,
        }
    }

    pub fn put(&self, address: u64, bytes: &[u8]) {
        let memory = self.memory.memory();
        memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub fn get(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let memory = self.memory.memory();
        memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        bytes
    }

    /// Writes descriptors: address, length, flags, next.
    pub fn describe(&self, table: u64, descriptors: &[(u64, u32, u16, u16)]) {
        for (number, (address, length, flags, next)) in descriptors.iter().enumerate() {
            let descriptor = Descriptor::new(*address, *length, *flags, *next);
            let at = GuestAddress(table + number as u64 * 16);
            self.memory.memory().write_obj(descriptor, at).unwrap();
        }
    }

    /// Writes a chain of segments, each readable or for writing.
    pub fn chain(&self, table: u64, segments: &[(u64, u32, u16)]) {
        let last = segments.len() - 1;
        let descriptors: Vec<_> = segments
            .iter()
            .enumerate()
            .map(|(number, (address, length, flags))| {
                let more = if number < last { NEXT } else { 0 };
                (*address, *length, flags | more, number as u16 + 1)
            })
            .collect();
        self.describe(table, &descriptors);
    }

    pub fn header(&self, kind: u32, sector: u64) {
        self.put(HEADER, &kind.to_le_bytes());
        self.put(HEADER + 4, &[0; 4]);
        self.put(HEADER + 8, &sector.to_le_bytes());
    }

    /// Offers a chain by its head.
    pub fn offer(&mut self, head: u16) {
        let slot = AVAILABLE + 4 + u64::from(self.next % RING_SIZE) * 2;
        self.put(slot, &head.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.put(AVAILABLE + 2, &self.next.to_le_bytes());
    }

    pub fn kick(&self) {
        let rings = std::slice::from_ref(&self.ring);
        self.backend
            .handle_event(0, EventSet::IN, rings, 0)
            .unwrap();
    }

    /// How many chains came back, as 16 bits, and what is said of the last: head and length.
    pub fn used(&self) -> (u16, u32, u32) {
        let bytes = self.get(USED + 2, 2);
        let count = u16::from_le_bytes([bytes[0], bytes[1]]);
        let last = USED + 4 + u64::from(count.wrapping_sub(1) % RING_SIZE) * 8;
        let number = |at| u32::from_le_bytes(self.get(at, 4).try_into().unwrap());
        (count, number(last), number(last + 4))
    }

    /// One request whose status byte comes last: its status, and how much was written.
    pub fn ask(&mut self, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> (u8, u32) {
        self.header(kind, sector);
        self.put(STATUS, &[UNTOLD]);
        let mut segments = vec![(HEADER, 16, 0)];
        segments.extend(data);
        segments.push((STATUS, 1, WRITE));
        self.chain(TABLE, &segments);
        let before = self.used().0;
        self.offer(0);
        self.kick();
        let (count, head, length) = self.used();
        assert_eq!((count, head), (before.wrapping_add(1), 0));
        (self.get(STATUS, 1)[0], length)
    }
}
