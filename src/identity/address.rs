//! Where somebody is reached outside of Matrix.
//!
//! <https://spec.matrix.org/v1.19/appendices/#3pid-types>

use ruma::thirdparty::Medium;

use super::IdentityError;
use crate::limits::{ADDRESS_BYTES_MAX, NUMBER_DIGITS_MAX};

/// An address, in the one form in which it is hashed and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Of what kind it is.
    pub medium: Medium,
    /// The address itself: mail in lower case, a telephone number as digits.
    pub address: String,
}

impl Address {
    /// An address as a user gives it.
    ///
    /// # Errors
    /// [`IdentityError::Invalid`], when it is none of its kind, or of a kind that the specification does not know.
    pub fn new(medium: Medium, address: &str) -> Result<Self, IdentityError> {
        let address = address.trim().to_lowercase();
        let is_good = match medium {
            Medium::Email => is_mail(&address),
            Medium::Msisdn => {
                let is_long = address.len() > NUMBER_DIGITS_MAX;
                !address.is_empty() && !is_long && address.bytes().all(|byte| byte.is_ascii_digit())
            }
            _ => return Err(IdentityError::Invalid("This kind of address is unknown")),
        };
        match is_good {
            true => Ok(Self { medium, address }),
            false => Err(IdentityError::Invalid("The address is malformed")),
        }
    }
}

fn is_mail(address: &str) -> bool {
    let parts = address.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty());
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
    parts.is_some() && address.len() <= ADDRESS_BYTES_MAX && address.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use ruma::thirdparty::Medium;

    use super::Address;

    #[track_caller]
    fn check(medium: &str, given: &str, expected: Option<&str>) {
        let found = Address::new(Medium::from(medium), given).ok().map(|address| address.address);
        assert_eq!(found.as_deref(), expected, "{medium} {given:?}");
    }

    #[test]
    fn addresses_have_one_form() {
        check("email", "bob@example.org", Some("bob@example.org"));
        check("email", " Bob@Example.ORG ", Some("bob@example.org"));
        check("email", "bob", None);
        check("email", "@example.org", None);
        check("email", "bob@", None);
        check("email", "bob email@example.org", None);
        check("email", &format!("{}@example.org", "b".repeat(250)), None);
        check("msisdn", "447700900000", Some("447700900000"));
        check("msisdn", "+447700900000", None);
        check("msisdn", "", None);
        check("msisdn", &"4".repeat(16), None);
        check("org.example.pigeon", "bob", None);
    }
}
