//! A second implementation of the format, written from docs/flash-format.md: it makes images
//! that are sealed with the right key and hold whatever a test wants, nonsense included.

use aws_lc_rs::{aead, hkdf, hmac};

use super::KEY;
use super::image::{Disk, PAGE};

pub type Tag = [u8; 12];

const HEADER_INFO: &[u8] = b"spacegray flash header 1";
const SESSION_INFO: &[u8] = b"spacegray flash session 1";
const VERSION: u32 = 2;
const RECORD_BYTES: usize = PAGE - 12;
pub const RECORD: u8 = 4;
pub const SUPERBLOCK: u8 = 5;

/// A key derived from the volume key.
pub fn derive(salt: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&KEY);
    let info = [info];
    let expanded = extracted.expand(&info, hkdf::HKDF_SHA256).expect("HKDF");
    expanded.fill(&mut key).expect("HKDF");
    key
}

/// Seals a slot: cipher text and the first 12 bytes of the tag.
pub fn seal(
    key: &[u8; 32],
    generation: u32,
    slot: u32,
    kind: u8,
    number: u64,
    plain: &[u8],
) -> (Vec<u8>, Tag) {
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("a key of 32 bytes");
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&generation.to_le_bytes());
    nonce[8..].copy_from_slice(&slot.to_le_bytes());
    let mut data = vec![kind];
    data.extend_from_slice(&number.to_le_bytes());
    let mut sealed = plain.to_vec();
    let tag = aead::LessSafeKey::new(key)
        .seal_in_place_separate_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(data),
            &mut sealed,
        )
        .expect("sealing");
    (sealed, tag.as_ref()[..12].try_into().expect("12 bytes"))
}

/// A slot before it is sealed.
pub struct Member {
    pub kind: u8,
    pub number: u32,
    pub plain: Vec<u8>,
}

/// Slots and what their record says besides.
#[derive(Default)]
pub struct Group {
    pub members: Vec<Member>,
    pub trims: Vec<(u32, u32)>,
    pub flags: u32,
}

/// Where something was written.
#[derive(Clone, Copy, Default)]
pub struct Written {
    pub slot: u32,
    pub generation: u32,
    pub tag: Tag,
}

impl Written {
    fn mark(&self) -> Vec<u8> {
        [
            &self.slot.to_le_bytes()[..],
            &self.generation.to_le_bytes(),
            &self.tag,
        ]
        .concat()
    }

    /// The bytes of an index entry that points to it.
    pub fn entry(&self) -> Vec<u8> {
        [&self.slot.to_le_bytes()[..], &self.tag].concat()
    }
}

/// Changes a plain text just before it is sealed; `number` counts them from 0.
pub type Change<'a> = dyn FnMut(usize, &mut [u8]) + 'a;

/// Writes an image from its start.
pub struct Writer<'a> {
    pub disk: Disk,
    pub salt: [u8; 32],
    pub generation: u32,
    pub sequence: u64,
    pub newest: Written,
    pub blocks: u64,
    segment_slots: u32,
    segment: u32,
    index: u32,
    tails: [Written; 2],
    checkpoint: (u64, Written),
    key: [u8; 32],
    sealed: usize,
    change: &'a mut Change<'a>,
}

const PAIRING: [u8; 16] = [0x50; 16];
const IDENTITIES: [[u8; 16]; 2] = [[0x30; 16], [0x31; 16]];

impl<'a> Writer<'a> {
    pub fn new(blocks: u64, segment_slots: u32, change: &'a mut Change<'a>) -> Writer<'a> {
        let salt = [0x73; 32];
        let mut writer = Writer {
            disk: Disk::default(),
            salt,
            generation: 1,
            sequence: 0,
            newest: Written::default(),
            blocks,
            segment_slots,
            segment: 2,
            index: 0,
            tails: Default::default(),
            checkpoint: Default::default(),
            key: derive(&salt, SESSION_INFO),
            sealed: 0,
            change,
        };
        for module in 0..2_u32 {
            let mut header = b"SGFLASH\0".to_vec();
            header.extend_from_slice(&VERSION.to_le_bytes());
            header.extend_from_slice(&module.to_le_bytes());
            header.extend_from_slice(&IDENTITIES[module as usize]);
            header.extend_from_slice(&PAIRING);
            header.extend_from_slice(&blocks.to_le_bytes());
            header.extend_from_slice(&segment_slots.to_le_bytes());
            header.extend_from_slice(&[0; 4]);
            writer.changed(&mut header);
            let key = hmac::Key::new(hmac::HMAC_SHA256, &derive(&PAIRING, HEADER_INFO));
            let mac = hmac::sign(&key, &header);
            header.extend_from_slice(mac.as_ref());
            writer.disk.modules[module as usize].write(0, &header);
        }
        writer
    }

    fn changed(&mut self, plain: &mut [u8]) {
        (self.change)(self.sealed, plain);
        self.sealed += 1;
    }

    fn put(&mut self, kind: u8, number: u64, plain: &[u8]) -> Written {
        let slot = self.segment * self.segment_slots + self.index;
        let (sealed, tag) = seal(&self.key, self.generation, slot, kind, number, plain);
        let offset = u64::from(self.segment / 2 * self.segment_slots + self.index) * PAGE as u64;
        let image = &mut self.disk.modules[self.segment as usize % 2];
        image.write(offset, &sealed);
        if kind == RECORD {
            image.write(offset + RECORD_BYTES as u64, &tag);
        }
        self.index += 1;
        Written {
            slot,
            generation: self.generation,
            tag,
        }
    }

    /// The next segment from here on, as the records before named it.
    pub fn next_segment(&mut self) {
        self.segment += 1;
        self.generation += 1;
        self.index = 0;
    }

    /// The segment being written.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Writes a group and its record; where each member is.
    pub fn group(&mut self, group: Group) -> Vec<Written> {
        if self.index as usize + group.members.len() + 1 > self.segment_slots as usize {
            self.next_segment();
        }
        self.sequence += 1;
        let (mut written, mut entries) = (Vec::new(), Vec::new());
        for Member {
            kind,
            number,
            mut plain,
        } in group.members
        {
            self.changed(&mut plain);
            let at = self.put(kind, u64::from(number), &plain);
            entries.extend_from_slice(&(number | u32::from(kind) << 30).to_le_bytes());
            entries.extend_from_slice(&at.tag);
            written.push(at);
        }
        let mut plain = self.sequence.to_le_bytes().to_vec();
        plain.extend_from_slice(&self.newest.tag);
        plain.extend_from_slice(&(self.segment + 1).to_le_bytes());
        plain.extend_from_slice(&(self.sequence - 1).to_le_bytes());
        plain.extend_from_slice(&(written.len() as u16).to_le_bytes());
        plain.extend_from_slice(&(group.trims.len() as u16).to_le_bytes());
        plain.extend_from_slice(&group.flags.to_le_bytes());
        plain.extend_from_slice(&self.generation.to_le_bytes());
        plain.extend_from_slice(&[0; 4]);
        plain.extend_from_slice(&entries);
        for (first, count) in group.trims {
            plain.extend_from_slice(&first.to_le_bytes());
            plain.extend_from_slice(&count.to_le_bytes());
        }
        plain.resize(RECORD_BYTES, 0);
        self.changed(&mut plain);
        self.newest = self.put(RECORD, 0, &plain);
        self.tails[self.segment as usize % 2] = self.newest;
        if group.flags & 1 == 1 {
            self.checkpoint = (self.sequence, self.newest);
        }
        written
    }

    /// The anchor of what was written so far.
    pub fn anchor(&mut self) {
        let mut bytes = self.root();
        self.changed(&mut bytes);
        self.disk.anchor = Some(bytes);
    }

    /// The superblock of what was written so far, none of which is known durable.
    pub fn superblock(&mut self) {
        const COUNT: u32 = 1;
        let mut plain = self.root();
        plain.extend_from_slice(&[0; 12]);
        plain.resize(PAGE - 32 - 4 - 12, 0);
        self.changed(&mut plain);
        let (sealed, tag) = seal(&self.key, COUNT, 1, SUPERBLOCK, 0, &plain);
        let slot = [&self.salt[..], &COUNT.to_le_bytes(), &sealed, &tag].concat();
        for module in &mut self.disk.modules {
            module.write(PAGE as u64, &slot);
        }
    }

    fn root(&self) -> Vec<u8> {
        let (sequence, first) = self.checkpoint;
        let mut bytes = [VERSION.to_le_bytes(), 0_u32.to_le_bytes()].concat();
        bytes.extend_from_slice(&PAIRING);
        bytes.extend_from_slice(&IDENTITIES.concat());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.newest.tag);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&first.mark());
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.tails[0].mark());
        bytes.extend_from_slice(&self.tails[1].mark());
        bytes
    }

    /// The plain text of a checkpoint's body. `segments`: generation and live slots of each;
    /// `changes`: blocks of which the tree does not know yet.
    pub fn body(
        &self,
        mapped: u64,
        segments: &[(u32, u16)],
        middles: &[Written],
        changes: &[(u32, Written)],
    ) -> Vec<u8> {
        let mut body = self.blocks.to_le_bytes().to_vec();
        body.extend_from_slice(&(self.generation + 1).to_le_bytes());
        for count in [1, segments.len() as u32, middles.len() as u32] {
            body.extend_from_slice(&count.to_le_bytes());
        }
        body.extend_from_slice(&mapped.to_le_bytes());
        body.extend_from_slice(&[0; 64]);
        body.extend_from_slice(&(changes.len() as u64).to_le_bytes());
        body.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        body.extend_from_slice(&self.salt);
        for (generation, live) in segments {
            body.extend_from_slice(&generation.to_le_bytes());
            body.extend_from_slice(&live.to_le_bytes());
            body.extend_from_slice(&[0; 2]);
        }
        for middle in middles {
            body.extend_from_slice(&middle.entry());
        }
        for (block, at) in changes {
            body.extend_from_slice(&block.to_le_bytes());
            body.extend_from_slice(&at.entry());
        }
        body.resize(body.len().next_multiple_of(PAGE), 0);
        body
    }
}
