//! The lines of which INFO consists.

use std::fmt::{Display, Write};

use bytesize::ByteSize;

/// Lines of `name:value`.
pub(super) struct Fields(pub(super) String);

impl Fields {
    pub(super) fn add(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// Fields of what does not exist here.
    pub(super) fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.add(name, 0));
    }

    /// A number of bytes, and the same for people.
    pub(super) fn bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), ByteSize(bytes));
    }
}
