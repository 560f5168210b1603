//! Panics that must stay where they are.
//!
//! What a peer computes from rows of its disk, or of other peers, meets whatever a bug, here or elsewhere, once put into them. A panic that such a row causes
//! must not end the task that serves everybody else's rows; nor may it end one peer after the other, as the row is sent from each to the next. So the work on a
//! piece that came from outside is run here, and its panic becomes an error that names what the piece was.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The longest text of a panic that is kept, in bytes.
const LONGEST_TEXT: usize = 512;

/// A piece of work panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct Panicked(pub String);

impl Panicked {
    /// From what a panic carried.
    #[must_use]
    pub fn of(carried: &(dyn Any + Send)) -> Self {
        let text = carried.downcast_ref::<String>().map(String::as_str).or_else(|| carried.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("without a word");
        Self(text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or_default().to_owned())
    }
}

/// Runs a piece of work whose panic must go no further.
///
/// Whatever the work had changed when it panicked stays half-changed. So it may change only what its caller throws away in that case, and what is right
/// after any of its steps, such as the counter of dots, where a panic leaves a gap.
///
/// # Errors
/// With what the panic said.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|carried| Panicked::of(&*carried))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_its_piece_of_work_alone_and_is_told() {
        let pieces = [1_u32, 0, 4];
        let quotients: Vec<_> = pieces.iter().map(|piece| caught(|| 8_u32.checked_div(*piece).expect("a divisor"))).collect();
        assert_eq!(quotients, [Ok(8), Err(Panicked("a divisor".to_owned())), Ok(2)]);
        assert_eq!(caught(|| panic!("row {}", 7)), Err::<(), _>(Panicked("row 7".to_owned())));
        assert_eq!(caught(|| std::panic::panic_any(7)), Err::<(), _>(Panicked("without a word".to_owned())));
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let panicked = caught(|| panic!("{}", "x".to_owned() + &"ä".repeat(LONGEST_TEXT)));
        assert_eq!(panicked, Err::<(), _>(Panicked("x".to_owned() + &"ä".repeat(LONGEST_TEXT / 2 - 1))));
    }
}
