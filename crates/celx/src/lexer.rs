//! Words of the language.

use crate::error::Issue;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name; keywords are names with a meaning in the parser.
    Ident(String),
    /// A signed literal is a minus and this, so that the smallest number fits.
    Int(String),
    Uint(String),
    Double(f64),
    Str(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// A word with its place.
#[derive(Debug, Clone)]
pub struct Word {
    pub token: Token,
    pub at: u32,
    /// As written, for messages.
    pub text: String,
}

const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "+", "-", "*", "/", "%", "<",
    ">", "!",
];

pub struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
    words: Vec<Word>,
    issues: Vec<Issue>,
}

/// Cuts a source into words, the last one being the end.
pub fn words(chars: &[char]) -> (Vec<Word>, Vec<Issue>) {
    let mut lexer = Lexer { chars, at: 0, words: Vec::new(), issues: Vec::new() };
    while lexer.next() {}
    (lexer.words, lexer.issues)
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn push(&mut self, start: usize, token: Token) {
        let text = self.chars[start..self.at].iter().collect();
        self.words.push(Word { token, at: place(start), text });
    }

    fn issue(&mut self, start: usize, message: impl Into<String>) {
        self.issues.push(Issue::new(place(start), format!("Syntax error: {}", message.into())));
    }

    fn next(&mut self) -> bool {
        while self.at < self.chars.len() {
            match self.peek(0) {
                ' ' | '\t' | '\n' | '\r' | '\x0c' => self.at += 1,
                '/' if self.peek(1) == '/' => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
        let start = self.at;
        let first = self.peek(0);
        if start >= self.chars.len() {
            self.words.push(Word { token: Token::End, at: place(start), text: "<EOF>".into() });
            return false;
        }
        if self.string_ahead() {
            self.string(start);
        } else if first.is_ascii_alphabetic() || first == '_' {
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
            let name = self.chars[start..self.at].iter().collect();
            self.push(start, Token::Ident(name));
        } else if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            self.number(start);
        } else if let Some(sign) = self.sign() {
            self.at += sign.len();
            self.push(start, Token::Sign(sign));
        } else {
            self.at += 1;
            let shown: String = self.chars[start..(start + 2).min(self.chars.len())].iter().collect();
            let shown = if first == '=' || first == '&' || first == '|' { shown } else { first.to_string() };
            self.issue(start, format!("token recognition error at: '{shown}'"));
        }
        true
    }

    fn sign(&self) -> Option<&'static str> {
        SIGNS.iter().copied().find(|sign| sign.chars().enumerate().all(|(i, c)| self.peek(i) == c))
    }

    /// Whether a string begins here, after up to two prefixes.
    fn string_ahead(&self) -> bool {
        let mut ahead = 0;
        let (mut raw, mut bytes) = (false, false);
        loop {
            match self.peek(ahead) {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                '"' | '\'' => return true,
                _ => return false,
            }
            ahead += 1;
        }
    }

    fn number(&mut self, start: usize) {
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            return self.integer(start);
        }
        let mut whole = true;
        let digits = |lexer: &mut Self| {
            while lexer.peek(0).is_ascii_digit() {
                lexer.at += 1;
            }
        };
        digits(self);
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            whole = false;
            self.at += 1;
            digits(self);
        }
        let signed = matches!(self.peek(1), '+' | '-') && self.peek(2).is_ascii_digit();
        if matches!(self.peek(0), 'e' | 'E') && (self.peek(1).is_ascii_digit() || signed) {
            whole = false;
            self.at += if signed { 2 } else { 1 };
            digits(self);
        }
        if whole {
            return self.integer(start);
        }
        let text: String = self.chars[start..self.at].iter().collect();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => self.push(start, Token::Double(number)),
            _ => {
                self.issues.push(Issue::new(place(start), "invalid double literal"));
                self.push(start, Token::Double(0.0));
            }
        }
    }

    fn integer(&mut self, start: usize) {
        let text: String = self.chars[start..self.at].iter().collect();
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            self.push(start, Token::Uint(text));
        } else {
            self.push(start, Token::Int(text));
        }
    }

    fn string(&mut self, start: usize) {
        let (mut raw, mut bytes) = (false, false);
        loop {
            match self.peek(0) {
                'r' | 'R' => raw = true,
                'b' | 'B' => bytes = true,
                _ => break,
            }
            self.at += 1;
        }
        let quote = self.peek(0);
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        let length = if triple { 3 } else { 1 };
        self.at += length;
        let mut text = Text { bytes: Vec::new(), as_bytes: bytes };
        loop {
            if self.at >= self.chars.len() || (!triple && matches!(self.peek(0), '\n' | '\r')) {
                let shown: String = self.chars[start..self.at].iter().collect();
                return self.issue(start, format!("token recognition error at: '{shown}'"));
            }
            let closes = (0..length).all(|ahead| self.peek(ahead) == quote);
            if closes {
                self.at += length;
                break;
            }
            if self.peek(0) == '\\' && !raw {
                if let Err(message) = self.escape(&mut text) {
                    self.issue(start, message);
                    self.at += 1;
                }
                continue;
            }
            if self.peek(0) == '\\' {
                text.put(self.peek(0));
                self.at += 1;
            }
            if self.at < self.chars.len() {
                text.put(self.peek(0));
                self.at += 1;
            }
        }
        let token = if bytes {
            Token::Bytes(text.bytes)
        } else {
            Token::Str(String::from_utf8_lossy(&text.bytes).into_owned())
        };
        self.push(start, token);
    }

    /// One escape sequence, the backslash being next.
    fn escape(&mut self, text: &mut Text) -> Result<(), String> {
        let kind = self.peek(1);
        let simple = match kind {
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '\\' | '\'' | '"' | '`' | '?' => Some(kind),
            _ => None,
        };
        if let Some(c) = simple {
            text.put(c);
            self.at += 2;
            return Ok(());
        }
        let (skip, count, radix) = match kind {
            'x' | 'X' => (2, 2, 16),
            'u' => (2, 4, 16),
            'U' => (2, 8, 16),
            '0'..='3' => (1, 3, 8),
            _ => return Err(format!("token recognition error at: '\\{kind}'")),
        };
        let digits: String = (skip..skip + count).map(|ahead| self.peek(ahead)).collect();
        let code = u32::from_str_radix(&digits, radix).map_err(|_| format!("invalid escape sequence '\\{kind}'"))?;
        if text.as_bytes && matches!(kind, 'x' | 'X' | '0'..='3') {
            text.bytes.push(u8::try_from(code).map_err(|_| "invalid octal sequence".to_owned())?);
        } else if text.as_bytes {
            return Err("unicode escapes are not allowed in bytes".into());
        } else {
            text.put(char::from_u32(code).ok_or("invalid unicode code point")?);
        }
        self.at += skip + count;
        Ok(())
    }
}

/// A string or bytes being read.
struct Text {
    bytes: Vec<u8>,
    as_bytes: bool,
}

impl Text {
    fn put(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    }
}
