//! Sessions: which key seals which generations.

use std::sync::Arc;

use crate::body::SessionRow;
use crate::cipher::{Cipher, CipherFailed, VolumeKey};

/// A session with its cipher ready.
pub(crate) struct Session {
    pub(crate) row: SessionRow,
    pub(crate) cipher: Cipher,
}

/// All sessions that still have something to read, in the order of their generations.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Vec<Session>>);

impl Sessions {
    pub(crate) fn new(rows: &[SessionRow], key: &VolumeKey) -> Result<Sessions, CipherFailed> {
        let sessions = rows.iter().map(|&row| {
            let cipher = key.session(&row.salt)?;
            Ok(Session { row, cipher })
        });
        sessions
            .collect::<Result<_, _>>()
            .map(|sessions| Sessions(Arc::new(sessions)))
    }

    /// The cipher of a generation; `None` for one from before the first session.
    pub(crate) fn of(&self, generation: u32) -> Option<&Cipher> {
        self.place_of(generation).map(|place| &self.0[place].cipher)
    }

    fn place_of(&self, generation: u32) -> Option<usize> {
        let began = |session: &Session| session.row.first_generation <= generation;
        self.0.partition_point(began).checked_sub(1)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The cipher of the session that is writing.
    pub(crate) fn current(&self) -> &Cipher {
        &self.0.last().expect("a disk has a session").cipher
    }

    /// The rows that are still needed when these generations are; always the last one too.
    pub(crate) fn rows(&self, generations: impl Iterator<Item = u32>) -> Vec<SessionRow> {
        let mut needed = vec![false; self.0.len()];
        for generation in generations {
            if let Some(place) = self.place_of(generation) {
                needed[place] = true;
            }
        }
        if let Some(last) = needed.last_mut() {
            *last = true;
        }
        let kept = self.0.iter().zip(needed).filter(|(_, needed)| *needed);
        kept.map(|(session, _)| session.row).collect()
    }
}
