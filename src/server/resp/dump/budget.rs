//! How much a payload may become in memory.

use super::DumpError;
use crate::config::MAX_CONTENT;

/// About what an element costs beside its bytes.
const ELEMENT_BYTES: usize = 96;

/// What may still come of a payload, in bytes.
pub(super) struct Budget {
    /// Of elements, as the content is weighed when it is written.
    elements: usize,
    /// Of what LZF makes of shorter strings.
    unpacked: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { elements: MAX_CONTENT, unpacked: MAX_CONTENT }
    }
}

impl Budget {
    /// Counts an element of so many bytes before it is kept.
    ///
    /// # Errors
    /// Where there are too many.
    pub(super) fn element(&mut self, bytes: usize) -> Result<(), DumpError> {
        self.elements = self.elements.checked_sub(bytes + ELEMENT_BYTES).ok_or(DumpError::TooBig)?;
        Ok(())
    }

    /// Counts bytes before they are unpacked.
    ///
    /// # Errors
    /// Where there are too many.
    pub(super) fn unpack(&mut self, bytes: u64) -> Result<usize, DumpError> {
        let bytes = usize::try_from(bytes).map_err(|_| DumpError::TooBig)?;
        self.unpacked = self.unpacked.checked_sub(bytes).ok_or(DumpError::TooBig)?;
        Ok(bytes)
    }
}
