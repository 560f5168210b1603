//! `ringtide secret`: a new random cluster secret.

/// Bytes of randomness in a new secret.
const SECRET_BYTES: usize = 32;

/// A secret that nobody can guess, as text that survives copying.
pub(crate) fn generate() -> Result<String, String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("the operating system gave no randomness: {error}"))?;
    Ok(bs58::encode(bytes).into_string())
}

#[cfg(test)]
mod tests {
    use super::generate;

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert!(one.len() >= 40);
        assert_ne!(one, other);
    }
}
