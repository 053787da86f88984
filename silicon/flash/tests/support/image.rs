//! The bytes of a module, cheap to copy: pages are shared until one is written.

use std::sync::Arc;

pub const PAGE: usize = 4096;

/// One module's bytes; a page that is not there reads as zeros.
#[derive(Clone, Default)]
pub struct Image {
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Image {
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset as usize + done;
            let (page, start) = (at / PAGE, at % PAGE);
            let count = (PAGE - start).min(buffer.len() - done);
            let into = &mut buffer[done..done + count];
            match self.pages.get(page) {
                Some(Some(bytes)) => into.copy_from_slice(&bytes[start..start + count]),
                _ => into.fill(0),
            }
            done += count;
        }
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = offset as usize + done;
            let (page, start) = (at / PAGE, at % PAGE);
            let count = (PAGE - start).min(data.len() - done);
            if self.pages.len() <= page {
                self.pages.resize(page + 1, None);
            }
            let bytes = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            let bytes = Arc::make_mut(bytes);
            bytes[start..start + count].copy_from_slice(&data[done..done + count]);
            done += count;
        }
    }

    /// Makes a hole; whole pages only, as fallocate keeps partial ones.
    pub fn punch(&mut self, offset: u64, length: u64) {
        assert!(offset % PAGE as u64 == 0 && length % PAGE as u64 == 0);
        let first = offset as usize / PAGE;
        let end = (first + length as usize / PAGE).min(self.pages.len());
        for page in self.pages.iter_mut().take(end).skip(first) {
            *page = None;
        }
    }

    /// Cuts everything from `length` on.
    pub fn truncate(&mut self, length: u64) {
        assert_eq!(length % PAGE as u64, 0);
        self.pages.truncate(length as usize / PAGE);
    }

    /// Bytes up to the end of the last page that was ever written.
    pub fn length(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// The numbers of the pages that hold something.
    pub fn written(&self) -> Vec<usize> {
        (0..self.pages.len())
            .filter(|&page| self.pages[page].is_some())
            .collect()
    }

    /// Flips bits of one byte.
    pub fn flip(&mut self, offset: u64, bits: u8) {
        let mut byte = [0];
        self.read(offset, &mut byte);
        self.write(offset, &[byte[0] ^ bits]);
    }

    pub fn page(&self, page: usize) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        self.read((page * PAGE) as u64, &mut bytes);
        bytes
    }
}

/// Both modules and what the vault remembers: all that outlives a power cut.
#[derive(Clone, Default)]
pub struct Disk {
    pub modules: [Image; 2],
    pub anchor: Option<Vec<u8>>,
}
