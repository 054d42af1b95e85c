//! Connection strings as libpq takes them: `postgresql://` URLs and `key=value` lists.
//!
//! Messages never quote any part of the string but parameter names: a password may stand anywhere
//! in a string that is malformed.

use percent_encoding::percent_decode_str;

use crate::error::{Error, ErrorKind, Result};

/// The parameters of a connection string under libpq's names, in the order they were given.
#[derive(Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Takes a URL or a `key=value` list apart.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let url = ["postgresql://", "postgres://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        match url {
            Some(rest) => Self::of_url(rest),
            None if text
                .split(['=', ' ', '/'])
                .next()
                .is_some_and(|s| s.ends_with(':')) =>
            {
                Err(malformed(
                    "the URL must begin with postgresql:// or postgres://",
                ))
            }
            None => Self::of_list(text),
        }
    }

    /// The last value given for a parameter; `None` if it is empty.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let mut value = None;
        self.0.retain_mut(|(given, text)| {
            let wanted = given == name;
            if wanted {
                value = Some(std::mem::take(text));
            }
            !wanted
        });
        value.filter(|value| !value.is_empty())
    }

    /// A parameter that nobody took.
    pub(super) fn leftover(&self) -> Option<&str> {
        self.0.first().map(|(name, _)| name.as_str())
    }

    fn put(&mut self, name: &str, value: String) {
        self.0.push((name.to_owned(), value));
    }

    /// `user:password@host:port/database?name=value&...`, all but the slash optional.
    fn of_url(rest: &str) -> Result<Self> {
        let mut parameters = Self::default();
        let (location, query) = match rest.split_once('?') {
            Some((location, query)) => (location, Some(query)),
            None => (rest, None),
        };
        let (authority, database) = match location.split_once('/') {
            Some((authority, database)) => (authority, Some(database)),
            None => (location, None),
        };
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                parameters.put_user(user)?;
                host
            }
            None => authority,
        };
        parameters.put_host(host)?;
        if let Some(database) = database {
            parameters.put("dbname", decode(database, "the database's name")?);
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| malformed("a parameter after the ? has no value"))?;
            let name = match decode(name, "a parameter's name")?.as_str() {
                "ssl" if value == "true" => {
                    parameters.put("sslmode", "require".to_owned());
                    continue;
                }
                name => name.to_owned(),
            };
            parameters.put(&name, decode(value, &name)?);
        }
        Ok(parameters)
    }

    fn put_user(&mut self, text: &str) -> Result<()> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        self.put("user", decode(user, "the user's name")?);
        if let Some(password) = password {
            self.put("password", decode(password, "the password")?);
        }
        Ok(())
    }

    fn put_host(&mut self, text: &str) -> Result<()> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed
                    .split_once(']')
                    .ok_or_else(|| malformed("the [ before the IPv6 address is not closed"))?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if rest.is_empty() => (host, ""),
                    None => return Err(malformed("there is text after the IPv6 address")),
                }
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        if !host.is_empty() {
            self.put("host", decode(host, "the host")?);
        }
        if !port.is_empty() {
            self.put("port", port.to_owned());
        }
        Ok(())
    }

    /// `host=localhost password='it''s'`: values in single quotes may hold blanks; a backslash
    /// escapes the next character anywhere.
    fn of_list(text: &str) -> Result<Self> {
        let mut parameters = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or_else(|| {
                malformed("it is neither a postgresql:// URL nor a list of name=value")
            })?;
            let name = name.trim_end();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                return Err(malformed("the name of a parameter was expected before a ="));
            }
            let (value, after) = list_value(after.trim_start())?;
            parameters.put(name, value);
            rest = after.trim_start();
        }
        Ok(parameters)
    }
}

fn list_value(text: &str) -> Result<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) => value.push(escaped),
                None => return Err(malformed("it ends in a lone backslash")),
            },
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if c.is_whitespace() && !quoted => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(malformed("a quote is not closed"));
    }
    Ok((value, ""))
}

/// Undoes percent-encoding, strictly: `%` must be followed by two hexadecimal digits.
fn decode(text: &str, what: &str) -> Result<String> {
    let mut encoded = text.split('%');
    encoded.next();
    let well_formed = encoded
        .all(|part| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
    if !well_formed {
        return Err(malformed(&format!(
            "in {what}, a % is not followed by two hexadecimal digits"
        ))
        .with_hint("write a literal % as %25"));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.contains('\0') => Ok(decoded.into_owned()),
        _ => Err(malformed(&format!("{what} is not UTF-8 text"))),
    }
}

pub(super) fn malformed(what: &str) -> Error {
    Error::new(
        ErrorKind::Settings,
        format!("the connection string is malformed: {what}"),
    )
    .with_hint(
        "write postgresql://user:password@host:port/database, with the characters / ? # @ : % \
             of the password percent-encoded (@ is %40)",
    )
}
