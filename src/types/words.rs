//! The words of a text, the same for everybody who types them: without case and accents.
//!
//! Scripts that put no spaces between words come as runs: their users type some of the characters, wherever
//! in the run those are.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Characters of a word that count; what is longer is cut (ours).
const WORD_CHARACTERS_MAX: usize = 32;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A word as it stands between spaces.
    Plain(String),
    /// Characters of a script that puts no spaces between words.
    Run(String),
}

/// `text` without case and accents.
#[must_use]
pub fn fold(text: &str) -> String {
    // The accents of Latin, Greek and Cyrillic. Marks of other scripts make another letter.
    let is_accent = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    text.nfkd().filter(|c| !is_accent(c)).nfc().flat_map(char::to_lowercase).collect()
}

/// The words of a text, folded, in order.
pub fn words(text: &str) -> impl Iterator<Item = Word> {
    let folded = fold(text);
    let (mut found, mut word, mut in_run) = (Vec::new(), String::new(), false);
    for c in folded.chars().chain([' ']) {
        let (part, run) = (is_part(c), is_unspaced(c));
        if !word.is_empty() && (!part || run != in_run) {
            let ended = std::mem::take(&mut word);
            found.push(if in_run { Word::Run(ended) } else { Word::Plain(ended) });
        }
        in_run = run;
        if part {
            word.push(c);
        }
    }
    found.into_iter()
}

/// What a name is found by: whoever types the beginning of one of these means it.
#[must_use]
pub fn beginnings(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in words(name) {
        match word {
            Word::Plain(word) => found.push(cut(&word)),
            Word::Run(run) => found.extend(run.char_indices().map(|(at, _)| cut(&run[at..]))),
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What somebody types to find a name: the beginnings of its words.
#[must_use]
pub fn typed(term: &str) -> Vec<String> {
    let cut = |word| match word {
        Word::Plain(word) | Word::Run(word) => cut(&word),
    };
    words(term).map(cut).collect()
}

fn cut(word: &str) -> String {
    word.chars().take(WORD_CHARACTERS_MAX).collect()
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// Chinese characters, kana, the scripts of south-east Asia, and Hangul, where particles stick to the words.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF | 0x1000..=0x11FF | 0x1780..=0x17FF
        | 0x3005..=0x3007 | 0x3040..=0x30FF | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7FF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, term: &str, expected: bool) {
        let known = beginnings(name);
        let typed = typed(term);
        let met = !typed.is_empty()
            && typed.iter().all(|word| known.iter().any(|known| known.starts_with(word.as_str())));
        assert_eq!(met, expected, "{name} {term}");
    }

    #[test]
    fn names_are_found_by_how_their_words_begin() {
        check("Alice Cooper", "coop ALI", true);
        check("Alice Cooper", "ooper", false);
        check("Alice Cooper", "alice cooper jr", false);
        check("Alice Cooper", "!", false);
        check("Renée Müller", "renee mull", true);
        check("renee", "Renée", true);
        check("Ελένη", "ελενη", true);
        check("田中太郎", "太郎", true);
        check("田中太郎", "郎太", false);
        check("が", "か", false);
        check("ｆｕｌｌｗｉｄｔｈ", "fullw", true);
        check("김철수", "철수", true);
        check("สมชาย", "ชาย", true);
        check("me田中", "田", true);
    }

    #[test]
    fn words_end_where_the_script_does() {
        let plain = |text: &str| Word::Plain(text.into());
        let run = |text: &str| Word::Run(text.into());
        assert_eq!(words("Say 日本語now!").collect::<Vec<_>>(), [plain("say"), run("日本語"), plain("now")]);
        assert_eq!(words("").count(), 0);
        assert_eq!(cut(&"x".repeat(100)).len(), WORD_CHARACTERS_MAX);
    }
}
