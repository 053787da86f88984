//! Little-endian fields in a row.

/// Reads fields from the front of a slice; `None` where it is too short.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Skips a field that must be zero.
    pub(crate) fn zeros(&mut self, count: usize) -> Option<()> {
        self.bytes(count)?
            .iter()
            .all(|&byte| byte == 0)
            .then_some(())
    }
}

/// Appends fields to a vector.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);
    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }
    fn put_u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
