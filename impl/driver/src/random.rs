//! Numbers that were never drawn before: identities that must never be given twice rest on them.

/// Draws from the operating system's randomness.
///
/// # Panics
/// The kernel has none to give, which Linux never says once it has started.
pub fn draw() -> u64 {
    getrandom::u64().expect("the kernel gives random numbers")
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_number_is_drawn_twice() {
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| super::draw()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
