//! One declaration gives a section's type, its defaults and its page in the manual.

/// What the manual says about a section.
pub(super) trait Documented {
    /// The lines about the section.
    const ABOUT: &'static [&'static str];
    /// Each key with its lines.
    const KEYS: &'static [(&'static str, &'static [&'static str])];
}

/// Declares sections: doc comment, name, and keys with doc comment, type and default.
macro_rules! sections {
    ($(
        $(#[doc = $about:literal])+
        $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr, )+
        }
    )+) => { $(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $key: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $key: $default, )+ }
            }
        }

        impl Documented for $name {
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const KEYS: &'static [(&'static str, &'static [&'static str])] =
                &[$( (stringify!($key), &[$($doc),+]) ),+];
        }
    )+ };
}

pub(super) use sections;
