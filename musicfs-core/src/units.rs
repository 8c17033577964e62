//! Units of sizes, as people write them.

/// Returns how many bytes a unit is: `kB`, `MiB`, `g`; case does not matter. No unit, and one that there is not, is `None`.
pub fn byte_unit(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_ten_and_of_two_are_told_apart() {
        assert_eq!(
            (byte_unit("MB"), byte_unit("MiB"), byte_unit("m")),
            (Some(1_000_000), Some(1 << 20), Some(1_000_000))
        );
        assert_eq!((byte_unit(""), byte_unit("mb/s"), byte_unit("XB")), (None, None, None));
    }
}
