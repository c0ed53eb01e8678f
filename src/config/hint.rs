//! "Did you mean": the nearest known word to a mistyped one.

/// ` (did you mean "x"?)`-style ending for `word`, or the list of `known` words when none is near.
pub(super) fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let lower = word.to_lowercase();
    let near = known.clone().map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate)).min();
    match near {
        Some((steps, candidate)) if steps <= 1 + word.chars().count() / 4 => format!("; did you mean {candidate:?}?"),
        _ => {
            let all: Vec<_> = known.map(|word| format!("{word:?}")).collect();
            if all.is_empty() { String::new() } else { format!("; known: {}", all.join(", ")) }
        }
    }
}

/// Edits (insert, delete, replace, swap of neighbours) from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best.min(rows[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_gets_the_list() {
        let known = ["carrier", "pbx"];
        assert_eq!(hint("carier", known.into_iter()), "; did you mean \"carrier\"?");
        assert_eq!(hint("bpx", known.into_iter()), "; did you mean \"pbx\"?");
        assert_eq!(hint("PBX", known.into_iter()), "; did you mean \"pbx\"?");
        assert_eq!(hint("zzzzzz", known.into_iter()), "; known: \"carrier\", \"pbx\"");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
