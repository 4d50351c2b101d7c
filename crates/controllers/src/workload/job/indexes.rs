//! Sets of completion indexes in the form of a Job's status: `1,3-5,7`.

use std::collections::BTreeSet;

/// A set of indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads the text form; what is malformed or not below `completions` is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                set.extend(first.max(0)..=last.min(completions - 1));
            }
        }
        Self(set)
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.0.insert(index);
    }

    pub(super) fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    pub(super) fn total(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    pub(super) fn common(&self, other: &Self) -> i32 {
        i32::try_from(self.0.intersection(&other.0).count()).unwrap_or(i32::MAX)
    }

    /// The text form: two in a row are listed, more make a range.
    pub(super) fn text(&self) -> String {
        let mut ranges: Vec<(i32, i32)> = Vec::new();
        for index in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => ranges.push((*index, *index)),
            }
        }
        let parts = ranges.into_iter().map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        });
        parts.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::Indexes;

    #[test]
    fn text_and_back() {
        for (text, completions, want) in [
            ("1,3-5,7", 10, "1,3-5,7"),
            ("0,1", 10, "0,1"),
            ("0,1,2", 10, "0-2"),
            ("0-8", 4, "0-3"),
            ("", 3, ""),
            ("x,2", 3, "2"),
        ] {
            assert_eq!(Indexes::parse(text, completions).text(), want);
        }
    }
}
