//! Where a test cuts the power: each change of the folder is one step.
//!
//! Outside of this library's own tests there is nothing here, and every step is taken.

use rustix::io::Errno;

/// The power that changes need.
#[derive(Clone, Default)]
pub struct Power {
    #[cfg(test)]
    steps_left: std::rc::Rc<std::cell::Cell<Option<u32>>>,
}

#[cfg(not(test))]
impl Power {
    /// To be called before each change.
    pub fn step(&self) -> Result<(), Errno> {
        Ok(())
    }
}

#[cfg(test)]
impl Power {
    /// Refuses for good once the steps are used up.
    pub fn step(&self) -> Result<(), Errno> {
        match self.steps_left.get() {
            None => Ok(()),
            Some(0) => Err(Errno::IO),
            Some(count) => {
                self.steps_left.set(Some(count - 1));
                Ok(())
            }
        }
    }

    /// Leaves power for `count` more steps; `None` for good.
    pub fn leave(&self, count: Option<u32>) {
        self.steps_left.set(count);
    }
}
