//! How requests are declared.

/// Declares the objects of requests: how each is read, and how a client writes it. A field that a caller must
/// give is `need`, one that may be absent is `may`.
macro_rules! request {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $kind:ident $field:ident: $type:ty = $key:literal),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: request!(@type $kind $type),)*
            }

            impl $crate::read::Read for $name {
                fn read(
                    raw: &serde_json::value::RawValue,
                    at: &$crate::read::At<'_>,
                ) -> Result<Self, $crate::read::Invalid> {
                    let fields = $crate::read::Fields::open(raw, at)?;
                    Ok(Self { $($field: fields.$kind($key)?,)* })
                }
            }

            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    use serde::ser::SerializeMap as _;
                    let mut map = serializer.serialize_map(None)?;
                    $(request!(@write $kind map, &self.$field, $key);)*
                    map.end()
                }
            }
        )*
    };
    (@type need $type:ty) => { $type };
    (@type may $type:ty) => { Option<$type> };
    (@write need $map:ident, $value:expr, $key:literal) => { $map.serialize_entry($key, $value)? };
    (@write may $map:ident, $value:expr, $key:literal) => {
        if let Some(value) = $value {
            $map.serialize_entry($key, value)?;
        }
    };
}

pub(crate) use request;
