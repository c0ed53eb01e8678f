//! Connectors that come with Tonewall: TOML in the same language as everybody's, read by the same reader.

/// Name and text of each preset.
pub const PRESETS: &[(&str, &str)] = &[
    ("sandbox", include_str!("sandbox.toml")),
    ("stripe", include_str!("stripe.toml")),
    ("adyen", include_str!("adyen.toml")),
    ("braintree", include_str!("braintree.toml")),
    ("worldpay", include_str!("worldpay.toml")),
];
