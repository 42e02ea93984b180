//! Machines panic when an invariant breaks. Where they are judged that is a finding: it is kept, and not printed.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// The last panic's message, on this thread.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    /// Whether this thread is inside [`caught`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `judged`.
///
/// # Errors
/// It panicked: the rule that the message begins with, or `assertion`, and the message.
pub fn caught<T>(judged: impl FnOnce() -> T) -> Result<T, (String, String)> {
    keep_panics();
    CATCHING.set(true);
    let went = catch_unwind(AssertUnwindSafe(judged));
    CATCHING.set(false);
    went.map_err(|_| {
        let message = PANIC.with_borrow_mut(std::mem::take);
        (rule_named_in(&message).unwrap_or("assertion").to_owned(), message)
    })
}

/// The rule that an assertion's message begins with, such as `R-FENCE-1 broken: …`.
fn rule_named_in(message: &str) -> Option<&str> {
    message.split_whitespace().next().filter(|word| word.starts_with("R-") || word.starts_with("I-"))
}

fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return before(info);
            }
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
            let short: String = text.chars().take(300).collect();
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
            PANIC.with_borrow_mut(|panic| *panic = format!("{short} ({place})"));
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_rule() {
        assert_eq!(caught(|| 7), Ok(7));
        let (rule, what) = caught(|| panic!("R-FENCE-1 broken: {}", 5)).map(|_: ()| ()).expect_err("it panics");
        assert_eq!(rule, "R-FENCE-1");
        assert!(what.starts_with("R-FENCE-1 broken: 5 ("), "{what}");
        assert_eq!(caught(|| assert_eq!(1, 2)).expect_err("it panics").0, "assertion");
    }
}
