//! Names of modules: a namespace of words with dots between, and a word in it.

/// The longest namespace, and the longest name, in bytes.
const LEN_MAX: usize = 200;

/// A letter, then letters, digits and `_`.
fn is_word(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.all(|c| c.is_alphanumeric() || c == '_')
}

/// Why this is no namespace, if it is none.
pub fn check_namespace(namespace: &str) -> Result<(), String> {
    if namespace.is_empty() {
        return Err("Namespace cannot be empty".to_owned());
    }
    if namespace.len() > LEN_MAX {
        return Err(format!("Namespace has more than {LEN_MAX} bytes"));
    }
    if !namespace.split('.').all(is_word) {
        return Err("Namespace parts begin with a letter and are alphanumeric, with '.' between".to_owned());
    }
    Ok(())
}

/// Whether only the service itself may have it: one of these, or what is below one.
pub fn is_reserved(namespace: &str, reserved: &[String]) -> bool {
    reserved
        .iter()
        .any(|r| namespace.strip_prefix(&**r).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Why this is no name of a module, if it is none.
pub fn check_module(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Module name cannot be empty".to_owned());
    }
    if name.len() > LEN_MAX {
        return Err(format!("Module name has more than {LEN_MAX} bytes"));
    }
    if !is_word(name) {
        return Err("Module name begins with a letter and is alphanumeric".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_words_with_dots_between() {
        for good in ["ml.sentiment", "myProvider", "a", "ä.b2_c"] {
            assert_eq!(check_namespace(good), Ok(()), "{good}");
        }
        for bad in ["", "ml..sentiment", "ml.1sentiment", "ml.", ".", ".ml", "a b", "a-b", &"a".repeat(201)] {
            assert!(check_namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_reserved_includes_what_is_below_it() {
        let reserved = ["stdlib".to_owned()];
        assert!(is_reserved("stdlib", &reserved) && is_reserved("stdlib.math", &reserved));
        assert!(!is_reserved("stdlibx", &reserved) && !is_reserved("my.stdlib", &reserved));
    }

    #[test]
    fn module_names_are_single_words() {
        for good in ["analyze", "myModule_v2", "A"] {
            assert_eq!(check_module(good), Ok(()), "{good}");
        }
        for bad in ["a b", "a.b", "a!", "a@b", "a-b"] {
            assert!(check_module(bad).unwrap_err().contains("alphanumeric"), "{bad}");
        }
    }
}
