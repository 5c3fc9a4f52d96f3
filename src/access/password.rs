//! Passwords and what is kept of them: Argon2id, with one set of parameters, so that every check costs the
//! same time and no users file can ask for more memory than there is.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::wire::error::{Code, Error};

/// The shortest password that can be set, in bytes.
const LEN_MIN: usize = 8;
/// The longest password, in bytes.
const LEN_MAX: usize = 256;
/// What a hash begins with: the algorithm and its cost (19 MiB, two passes, one lane), in PHC's form.
const PREFIX: &str = "$argon2id$v=19$m=19456,t=2,p=1$";
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_LEN: usize = 16;
const HASH_LEN: usize = 32;

/// A password. It has no `Debug`, no `Display` and no serial form, and leaves no copy in memory.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// One that a user chooses.
    pub fn chosen(text: &str) -> Result<Self, Error> {
        if text.len() < LEN_MIN {
            return Err(Error::usage(format!("the password is shorter than {LEN_MIN} bytes"))
                .hint("several words are easier to remember than one with odd characters"));
        }
        if text.contains(char::is_control) {
            return Err(Error::usage("the password holds a control character"));
        }
        Self::offered(text)
            .ok_or_else(|| Error::usage(format!("the password is longer than {LEN_MAX} bytes")))
    }

    /// One that a caller logs in with; none for what no user can have.
    #[must_use]
    pub fn offered(text: &str) -> Option<Self> {
        let fits = (1..=LEN_MAX).contains(&text.len()) && !text.contains('\0');
        fits.then(|| Self(Zeroizing::new(text.as_bytes().to_vec())))
    }

    /// Its bytes, for the one place that has to use them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

/// The memory that one calculation needs: 19 MiB from the first use on.
#[derive(Default)]
pub struct Memory(Vec<Block>);

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    salt: [u8; SALT_LEN],
    output: [u8; HASH_LEN],
}

impl Hash {
    /// Of a password, with a salt of its own.
    pub fn new(password: &Password, memory: &mut Memory) -> Result<Self, Error> {
        let salt = random()?;
        Ok(Self { salt, output: calculate(password, &salt, memory) })
    }

    /// One that no password has: it costs the same time as any other, and never fits.
    pub fn decoy() -> Result<Self, Error> {
        Ok(Self { salt: random()?, output: random()? })
    }

    /// Whether it is this password's; takes the same time either way.
    #[must_use]
    pub fn fits(&self, password: &Password, memory: &mut Memory) -> bool {
        calculate(password, &self.salt, memory).ct_eq(&self.output).into()
    }

    /// Reads what [`Self::to_text`] wrote; none for anything else, other parameters among it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (salt, output) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let decode = |part: &str| STANDARD_NO_PAD.decode(part).ok();
        Some(Self { salt: decode(salt)?.try_into().ok()?, output: decode(output)?.try_into().ok()? })
    }

    /// In the form that other programs write too.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}${}", STANDARD_NO_PAD.encode(self.salt), STANDARD_NO_PAD.encode(self.output))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

fn calculate(password: &Password, salt: &[u8], memory: &mut Memory) -> [u8; HASH_LEN] {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_LEN)).expect("they are in range");
    let blocks = params.block_count();
    memory.0.resize(blocks, Block::new());
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut output = [0; HASH_LEN];
    argon
        .hash_password_into_with_memory(password.reveal(), salt, &mut output, &mut memory.0)
        .expect("every length was checked");
    output
}

/// Bytes that cannot be guessed.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::new(Code::Failed, "the system gives no random numbers"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenSSL makes of "correct horse" with the salt "0123456789abcdef".
    const REFERENCE: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$rk2Mi3E4dgRMg0fHaYaptWVZRKqs//6b6k3/nntqGJk";

    #[test]
    fn a_hash_fits_its_password_alone() {
        let mut memory = Memory::default();
        let password = Password::chosen("correct horse").unwrap();
        let hash = Hash::new(&password, &mut memory).unwrap();
        assert!(hash.fits(&password, &mut memory));
        assert!(!hash.fits(&Password::chosen("correct horsf").unwrap(), &mut memory));
        assert!(!Hash::decoy().unwrap().fits(&password, &mut memory));
        let text = hash.to_text();
        assert_eq!(Hash::parse(&text), Some(hash.clone()));
        assert!(!format!("{hash:?}").contains(&text[40..]));
        assert_ne!(Hash::new(&password, &mut memory).unwrap().to_text(), text, "each has its own salt");
        let reference = Hash::parse(REFERENCE).unwrap();
        assert!(reference.fits(&password, &mut memory));
        assert_eq!(reference.to_text(), REFERENCE);
    }

    #[test]
    fn only_this_form_and_these_parameters_are_taken() {
        let good = Hash { salt: [1; SALT_LEN], output: [2; HASH_LEN] }.to_text();
        assert!(Hash::parse(&good).is_some());
        for bad in [
            String::new(),
            good.replace("argon2id", "argon2i"),
            good.replace("v=19", "v=16"),
            good.replace("m=19456", "m=4194304"),
            good.replace("t=2", "t=1"),
            good.replace("p=1", "p=2"),
            format!("{good}="),
            format!("{good}$"),
            format!(" {good}"),
            good[..good.len() - 1].to_owned(),
            "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy".to_owned(),
        ] {
            assert!(Hash::parse(&bad).is_none(), "{bad}");
        }
    }

    /// G29.
    #[test]
    fn g29_lengths_are_checked_before_anything_is_hashed() {
        for (text, can_be_set, can_be_offered) in [
            (String::new(), false, false),
            ("demo".into(), false, true),
            ("x".repeat(8), true, true),
            ("x".repeat(73), true, true),
            ("x".repeat(256), true, true),
            ("x".repeat(257), false, false),
            ("x".repeat(1 << 20), false, false),
            ("12345678\0".into(), false, false),
            ("12345678\n".into(), false, true),
        ] {
            assert_eq!(Password::chosen(&text).is_ok(), can_be_set, "{:.20}", text);
            assert_eq!(Password::offered(&text).is_some(), can_be_offered, "{:.20}", text);
        }
    }
}
