//! Patterns of names: any number of `*`, each standing for any run of characters, none included. Nothing else
//! is special; there is no way to mean a star itself, since no name holds one.

/// Whether the whole of `name` fits `pattern`.
///
/// When characters stop fitting, only the latest star is tried with one character more: what an earlier star
/// could take beyond that, the latest can take as well. So the worst case is the product of the two lengths,
/// never more.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    // Bytes will do: a star is one byte, and no byte of a longer UTF-8 character looks like it.
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Behind the latest star, and where what follows the star began in the name.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), retry) {
            (Some(b'*'), _) => {
                p += 1;
                retry = Some((p, n));
            }
            (Some(byte), _) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            (_, Some((after_star, began))) => {
                p = after_star;
                n = began + 1;
                retry = Some((after_star, n));
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, name) in [
            ("web-1", "web-1"),
            ("*", ""),
            ("*", "web"),
            ("web-*", "web-"),
            ("web-*", "web-12"),
            ("*-1", "web-1"),
            ("w*b*1", "web-1"),
            ("**", "web"),
            ("*a*a*", "aa"),
            ("*ab", "aab"),
            ("é*", "éa"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "web"),
            ("web", "web-1"),
            ("web-1", "web"),
            ("web-*", "web"),
            ("*-1", "web-2"),
            ("*a*a*", "a"),
            ("w?b", "web"),
            ("Web", "web"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_do_not_blow_up() {
        let pattern = "*a".repeat(64) + "b";
        let begun = Instant::now();
        assert!(!matches(&pattern, &"a".repeat(10_000)));
        assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    }

    /// What a star means, written down as it is said.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|taken| model(rest, &name[taken..])),
            Some((byte, rest)) => name.first() == Some(byte) && model(rest, &name[1..]),
        }
    }

    proptest! {
        // Few letters, so that near misses are common.
        #[test]
        fn agrees_with_the_model(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), model(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn never_panics(pattern in ".*", name in ".*") {
            let _ = matches(&pattern, &name);
            let around = format!("*{name}*");
            prop_assert!(matches(&around, &name));
        }
    }
}
