//! Patterns of push rules, matched in time that grows with the text alone: a pattern cannot make it slow.
//!
//! A pattern is an automaton: state `n` is that its first `n` characters have been met. All states in which it may be
//! are bits of a few words, which each character of the text moves on at once.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#conditions-1>

use crate::limits::PUSH_PATTERN_BYTES_MAX;

const WORDS: usize = PUSH_PATTERN_BYTES_MAX / 64 + 1;
/// A set of states.
type States = [u64; WORDS];

/// What of a text a pattern has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// Some of it that begins and ends where no word is cut.
    Words,
}

/// Whether `text` matches `pattern`, in which `*` is anything and `?` is any character. The text is in lower case.
pub(super) fn matches(pattern: &str, text: &str, extent: Extent) -> bool {
    let pattern = pattern.to_lowercase();
    if pattern.contains(['*', '?']) {
        return Glob::new(&pattern, false).is_some_and(|glob| glob.finds(text, extent));
    }
    contains(&pattern, text, extent)
}

/// Whether `text` is or has `literal`, in which no character means anything else. The text is in lower case, and so has
/// the other to be.
pub(super) fn contains(literal: &str, text: &str, extent: Extent) -> bool {
    match extent {
        Extent::Whole => literal == text,
        Extent::Words if literal.is_empty() => text.is_empty(),
        // Mostly the answer is no, and quick to find.
        Extent::Words => {
            text.contains(literal) && Glob::new(literal, true).is_some_and(|glob| glob.finds(text, extent))
        }
    }
}

/// What matching costs, in steps.
pub(super) fn steps(text: &str) -> usize {
    64 + text.len()
}

struct Glob {
    /// States that any character may follow without leaving them.
    loops: States,
    /// States that any character leads out of.
    any: States,
    /// States that an ASCII character leads out of.
    ascii: Box<[States; 128]>,
    /// The same for others, in order.
    others: Vec<(char, States)>,
    /// The last state.
    end: usize,
}

impl Glob {
    /// `None` for a pattern that is too long.
    fn new(pattern: &str, is_literal: bool) -> Option<Self> {
        let mut glob = Self {
            loops: States::default(),
            any: States::default(),
            ascii: Box::new([States::default(); 128]),
            others: Vec::new(),
            end: 0,
        };
        for c in pattern.chars() {
            if c == '*' && !is_literal {
                set(&mut glob.loops, glob.end);
                continue;
            }
            if glob.end == PUSH_PATTERN_BYTES_MAX {
                return None;
            }
            let states = match c {
                '?' if !is_literal => &mut glob.any,
                c if c.is_ascii() => &mut glob.ascii[c as usize],
                c => {
                    let place = glob.others.binary_search_by_key(&c, |(other, _)| *other);
                    let place = place.unwrap_or_else(|place| {
                        glob.others.insert(place, (c, States::default()));
                        place
                    });
                    &mut glob.others[place].1
                }
            };
            set(states, glob.end);
            glob.end += 1;
        }
        Some(glob)
    }

    fn finds(&self, text: &str, extent: Extent) -> bool {
        let mut states = States::default();
        set(&mut states, 0);
        let mut before = None;
        let mut rest = text.chars();
        loop {
            let next = rest.clone().next();
            let is_boundary = is_boundary(before, next);
            if extent == Extent::Words && is_boundary {
                set(&mut states, 0);
            }
            let is_met = (states[self.end / 64] >> (self.end % 64)) & 1 == 1;
            match (extent, rest.next()) {
                (Extent::Words, _) if is_met && is_boundary => return true,
                (_, None) => return is_met && is_boundary,
                (_, Some(c)) => self.advance(&mut states, c),
            }
            before = next;
        }
    }

    /// Moves on by one character.
    fn advance(&self, states: &mut States, c: char) {
        const NONE: States = [0; WORDS];
        let out = match c {
            c if c.is_ascii() => &self.ascii[c as usize],
            c => match self.others.binary_search_by_key(&c, |(other, _)| *other) {
                Ok(place) => &self.others[place].1,
                Err(_) => &NONE,
            },
        };
        let mut carry = 0;
        let words = states.iter_mut().zip(out).zip(&self.any).zip(&self.loops).take(self.end / 64 + 1);
        for (((here, out), any), loops) in words {
            let leaving = *here & (out | any);
            *here = (leaving << 1) | carry | (*here & loops);
            carry = leaving >> 63;
        }
    }
}

fn set(states: &mut States, state: usize) {
    states[state / 64] |= 1 << (state % 64);
}

/// Whether no word is cut between two characters, or at an end of the text.
fn is_boundary(before: Option<char>, after: Option<char>) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    !(is_word(before) && is_word(after))
}

#[cfg(test)]
mod tests {
    use super::{Extent, contains, matches};

    fn whole(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text, Extent::Whole), expected, "{pattern:?} is {text:?}");
    }

    fn words(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text, Extent::Words), expected, "{pattern:?} in {text:?}");
    }

    #[test]
    fn a_whole_text_matches() {
        whole("m.notice", "m.notice", true);
        whole("M.NOTICE", "m.notice", true);
        whole("notice", "m.notice", false);
        whole("*", "", true);
        whole("", "", true);
        whole("", "x", false);
        whole("?", "", false);
        whole("?", "ä", true);
        whole("a*b*c", "axxbyyc", true);
        whole("a*b*c", "axxbyyd", false);
        whole("*a?c", "aacabc", true);
        whole("@*:example.org", "@alice:example.org", true);
        whole("ÄÖ*", "äöü", true);
    }

    #[test]
    fn words_are_not_cut() {
        words("cake", "i like cake.", true);
        words("cake", "cake", true);
        words("cake", "cakes", false);
        words("cake", "pancake", false);
        words("cake", "pancake cake", true);
        words("cake*", "pancakes cakes", true);
        words("c?ke", "a coke", true);
        words("c?ke", "a cooke", false);
        words("a a", "xa a a", true);
        words("@room", "hello @room!", true);
        words("ex*ple", "an example.", true);
        words("*", "", true);
        words("", "x", false);
        words("", "", true);
        words("?", "?", true);
        words("übung", "eine übung", true);
        words("???*???", "abcde", false);
        words("???*???", "abcdef", true);
    }

    #[test]
    fn a_name_means_itself() {
        assert!(contains("what?", "she is what? yes", Extent::Words));
        assert!(!contains("what?", "she is whats", Extent::Words));
        assert!(!contains("*", "anything", Extent::Words));
        assert!(!contains(&"?".repeat(200_000), &"?".repeat(200_000), Extent::Words));
    }

    #[test]
    fn the_longest_pattern_matches_and_longer_ones_do_not() {
        let text = format!("{}b", "a".repeat(254));
        words(&format!("{}b", "?".repeat(254)), &text, true);
        words(&format!("*{}*b", "a?".repeat(127)), &text, true);
        words(&"?".repeat(256), &"a".repeat(256), true);
        words(&"?".repeat(257), &"a".repeat(257), false);
        whole(&"?".repeat(200_000), &"a".repeat(200_000), false);
    }
}
