//! Static tokens from a file (`--token-auth-file`): lines of `token,user,uid[,"group1,group2"]`.

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, UserInfo};

use crate::bearer::{TokenAuthenticator, implicit_audiences};
use crate::cache::digest;

/// Static tokens; kept as digests, so that looking one up takes no time that depends on it.
pub struct TokenFile {
    users: std::collections::HashMap<[u8; 32], UserInfo>,
    api_audiences: Vec<String>,
}

impl TokenFile {
    /// Reads the file's text. Lines without a token are passed over; the last of two equal tokens counts.
    ///
    /// # Errors
    /// A line has fewer than three columns.
    pub fn parse(text: &str, api_audiences: Vec<String>) -> Result<Self, String> {
        let mut users = std::collections::HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = split_columns(line);
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                return Err(format!(
                    "line {}: a token must have at least 3 columns (token, user name, user uid), found {}",
                    index + 1,
                    columns.len()
                ));
            };
            if token.is_empty() {
                continue;
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups = groups.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect();
            let user = UserInfo { name: name.clone(), uid: uid.clone(), groups, extra: Default::default() };
            users.insert(digest(&[token.as_bytes()]), user);
        }
        Ok(Self { users, api_audiences })
    }
}

fn split_columns(line: &str) -> Vec<String> {
    let (mut columns, mut current, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                current.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(std::mem::take(&mut current).trim().to_owned()),
            c => current.push(c),
        }
    }
    columns.push(current.trim().to_owned());
    columns
}

#[async_trait]
impl TokenAuthenticator for TokenFile {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(user) = self.users.get(&digest(&[token.as_bytes()])) else { return Ok(None) };
        Ok(implicit_audiences(&self.api_audiences, audiences)
            .map(|audiences| Authenticated { user: user.clone(), audiences }))
    }
}
