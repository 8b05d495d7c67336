//! From texts to the terms of the index, and from what somebody types to a question.
//!
//! A word is a term. Of a script without spaces every two neighbouring characters are a term, and the last character
//! is one too, so that any piece of a run is found.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use crate::{
    limits::{SEARCH_TERM_CHARACTERS_MAX, SEARCH_WORDS_MAX},
    types::words::{Word, fold, words},
};

/// Makes the terms of a text.
#[derive(Clone, Default)]
pub(super) struct Terms;

/// The terms of one text.
pub(super) struct Stream {
    tokens: std::vec::IntoIter<Token>,
    current: Token,
}

impl Tokenizer for Terms {
    type TokenStream<'a> = Stream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Stream {
        let token = |(position, text)| Token { position, text, ..Token::default() };
        let tokens: Vec<Token> = terms(text).into_iter().map(token).collect();
        Stream { tokens: tokens.into_iter(), current: Token::default() }
    }
}

impl TokenStream for Stream {
    fn advance(&mut self) -> bool {
        match self.tokens.next() {
            Some(token) => {
                self.current = token;
                true
            }
            None => false,
        }
    }

    fn token(&self) -> &Token {
        &self.current
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.current
    }
}

/// The terms of a text, each with its place.
fn terms(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut place) = (Vec::new(), 0);
    for word in words(text) {
        match word {
            Word::Plain(word) => {
                found.push((place, cut(&word)));
                place += 1;
            }
            Word::Run(run) => {
                for pair in pairs(&run) {
                    found.push((place, pair));
                    place += 1;
                }
                found.extend(run.chars().next_back().map(|last| (place, last.to_string())));
                place += 1;
            }
        }
    }
    found
}

/// One thing that must be in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// This term.
    Term(String),
    /// A term that begins so.
    Beginning(String),
    /// These terms, at these distances.
    Phrase(Vec<(usize, String)>),
}

/// What must be in a text that is searched for: every word, and what stands between quotation marks as it is there.
pub(super) fn asked(term: &str) -> Vec<Asked> {
    let mut found = Vec::new();
    for (number, part) in term.split('"').enumerate() {
        match number % 2 == 1 {
            true => found.extend(phrase(part)),
            false => found.extend(words(part).flat_map(of_word)),
        }
    }
    found.truncate(SEARCH_WORDS_MAX);
    found
}

fn phrase(part: &str) -> Option<Asked> {
    let (mut terms, mut place) = (Vec::new(), 0);
    for word in words(part) {
        match word {
            Word::Plain(word) => {
                terms.push((place, cut(&word)));
                place += 1;
            }
            Word::Run(run) => {
                let pairs = pairs(&run);
                place += pairs.len() + 1;
                let first = place - pairs.len() - 1;
                match pairs.is_empty() {
                    true => terms.push((first, run)),
                    false => terms.extend(pairs.into_iter().enumerate().map(|(at, pair)| (first + at, pair))),
                }
            }
        }
    }
    terms.truncate(SEARCH_WORDS_MAX);
    match terms.len() {
        0 => None,
        1 => terms.pop().map(|(_, term)| Asked::Term(term)),
        _ => Some(Asked::Phrase(terms)),
    }
}

fn of_word(word: Word) -> Option<Asked> {
    match word {
        Word::Plain(word) => Some(Asked::Term(cut(&word))),
        Word::Run(run) => {
            let mut pairs = pairs(&run);
            pairs.truncate(SEARCH_WORDS_MAX);
            Some(match pairs.len() {
                0 => Asked::Beginning(run),
                1 => Asked::Term(pairs.remove(0)),
                _ => Asked::Phrase(pairs.into_iter().enumerate().collect()),
            })
        }
    }
}

fn pairs(run: &str) -> Vec<String> {
    let characters: Vec<char> = run.chars().collect();
    characters.windows(2).map(|pair| pair.iter().collect()).collect()
}

fn cut(word: &str) -> String {
    word.chars().take(SEARCH_TERM_CHARACTERS_MAX).collect()
}

/// The words of `texts` that `term` asks for, as they are written there, for clients to mark them.
pub(super) fn highlights<'a>(term: &str, texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let of_word = |word| match word {
        Word::Plain(word) | Word::Run(word) => word,
    };
    let wanted: Vec<String> = words(term).map(of_word).collect();
    let mut found = Vec::new();
    for text in texts {
        for written in text.split(|c: char| !c.is_alphanumeric()).filter(|written| !written.is_empty()) {
            let folded = fold(written);
            let written = written.to_lowercase();
            if wanted.contains(&folded) && !found.contains(&written) {
                found.push(written);
            }
        }
        // A run is a piece of what is written there.
        let runs = wanted.iter().filter(|run| text.contains(run.as_str()));
        let new: Vec<String> = runs.filter(|run| !found.contains(*run)).cloned().collect();
        found.extend(new);
    }
    found.truncate(SEARCH_WORDS_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(terms: &[(usize, &str)]) -> Vec<(usize, String)> {
        terms.iter().map(|(place, term)| (*place, String::from(*term))).collect()
    }

    #[test]
    fn texts_become_terms() {
        assert_eq!(terms("Hello, Wörld!"), placed(&[(0, "hello"), (1, "world")]));
        assert_eq!(terms("猫 日本語x"), placed(&[(0, "猫"), (1, "日本"), (2, "本語"), (3, "語"), (4, "x")]));
        assert_eq!(terms("😀"), placed(&[]));
    }

    #[test]
    fn what_is_typed_becomes_a_question() {
        let term = |text: &str| Asked::Term(text.into());
        assert_eq!(asked("Message 4"), [term("message"), term("4")]);
        assert_eq!(asked("日本"), [term("日本")]);
        assert_eq!(asked("猫"), [Asked::Beginning("猫".into())]);
        assert_eq!(asked("日本語"), [Asked::Phrase(placed(&[(0, "日本"), (1, "本語")]))]);
        let phrase = Asked::Phrase(placed(&[(0, "big"), (1, "dog")]));
        assert_eq!(asked("\"big dog\" ran"), [phrase.clone(), term("ran")]);
        assert_eq!(asked("\"big dog"), [phrase]);
        assert_eq!(asked("\"dog\""), [term("dog")]);
        assert_eq!(asked("!?"), []);
        assert_eq!(asked(&"a ".repeat(1_000)).len(), SEARCH_WORDS_MAX);
    }

    #[test]
    fn words_are_marked_as_they_are_written() {
        let found = highlights("wörld 日本", ["The World", "wÖrld 日本語"].into_iter());
        assert_eq!(found, ["world", "wörld", "日本"]);
    }
}
