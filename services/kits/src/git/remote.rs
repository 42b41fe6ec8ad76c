//! Where a repository is, and what opens it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use super::GitError;

/// Where the repository is, apart from what opens it.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) url: String,
    pub(super) scheme: String,
    /// The line of a header.
    pub(super) authorization: Option<SecretString>,
}

impl Remote {
    /// Reads a URL that a kit can be fetched from.
    pub(super) fn parse(url: &str) -> Result<Self, GitError> {
        let mut url = Url::parse(url).map_err(|_| GitError::Url("is none"))?;
        let (scheme, host) = (url.scheme().to_owned(), url.host_str().unwrap_or_default().to_owned());
        // A program that is given one of them would take it for an option.
        if host.starts_with('-') || url.username().starts_with('-') {
            return Err(GitError::Url("has a host or a user that begins with -"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(GitError::Url("must have neither ? nor #"));
        }
        let mut authorization = None;
        match scheme.as_str() {
            "https" | "http" => {
                authorization = basic(url.username(), url.password().unwrap_or_default());
                if url.set_username("").is_err() || url.set_password(None).is_err() {
                    return Err(GitError::Url("can have no user"));
                }
            }
            "ssh" if host.is_empty() => return Err(GitError::Url("has no host")),
            "ssh" if url.password().is_some() => {
                return Err(GitError::Url("has a password, which ssh does not take: it has keys of its own"));
            }
            "file" if !host.is_empty() => return Err(GitError::Url("is a file's, and has a host")),
            "ssh" | "file" => {}
            _ => return Err(GitError::Url("must begin with https://, http://, ssh:// or file://")),
        }
        Ok(Self { url: url.into(), scheme, authorization })
    }
}

/// The header that says who asks, from a user and a password as they stand in a URL.
fn basic(user: &str, password: &str) -> Option<SecretString> {
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let mut credential: Vec<u8> = percent_decode_str(user).collect();
    credential.push(b':');
    credential.extend(percent_decode_str(password));
    Some(format!("Authorization: Basic {}", STANDARD.encode(credential)).into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn what_opens_a_repository_is_kept_apart() {
        for (url, left, header) in [
            ("https://git.example/a/kit.git", "https://git.example/a/kit.git", None),
            ("HTTPS://Git.Example:443/kit", "https://git.example/kit", None),
            ("http://127.0.0.1:8080/kit", "http://127.0.0.1:8080/kit", None),
            // ann:p@ss
            ("https://ann:p%40ss@git.example/kit", "https://git.example/kit", Some("YW5uOnBAc3M=")),
            // token:
            ("https://token@git.example/kit", "https://git.example/kit", Some("dG9rZW46")),
            ("https://:pass@git.example/kit", "https://git.example/kit", Some("OnBhc3M=")),
            ("ssh://git@git.example:2222/kit.git", "ssh://git@git.example:2222/kit.git", None),
            ("file:///srv/kits/kit.git", "file:///srv/kits/kit.git", None),
            ("file:///srv/a kit", "file:///srv/a%20kit", None),
        ] {
            let remote = Remote::parse(url).unwrap();
            assert_eq!(remote.url, left);
            assert!(left.starts_with(&format!("{}://", remote.scheme)), "{url}");
            let header = header.map(|header| format!("Authorization: Basic {header}"));
            let line = remote.authorization.as_ref().map(|line| line.expose_secret().to_owned());
            assert_eq!(line, header, "{url}");
            assert!(!format!("{remote:?}").contains("Basic"), "{remote:?}");
        }
    }

    #[test]
    fn nothing_is_fetched_from_anything_else() {
        let scheme = "must begin with https://, http://, ssh:// or file://";
        let option = "has a host or a user that begins with -";
        for (url, says) in [
            ("", "is none"),
            ("/srv/kits", "is none"),
            ("../kits", "is none"),
            ("--upload-pack=touch /tmp/x", "is none"),
            ("-oProxyCommand=x:y", "is none"),
            ("git@git.example:kit.git", "is none"),
            ("https://", "is none"),
            ("https://git.example:pass/word@x", "is none"),
            ("ext::sh -c id", scheme),
            ("git://git.example/kit", scheme),
            ("ftp://git.example/kit", scheme),
            ("javascript:alert(1)", scheme),
            ("ssh://-oProxyCommand=id/kit", option),
            ("ssh://-l@git.example/kit", option),
            ("ssh:///kit", "has no host"),
            (
                "ssh://git:pass@git.example/kit",
                "has a password, which ssh does not take: it has keys of its own",
            ),
            ("file://git.example/kit", "is a file's, and has a host"),
            ("https://git.example/kit?token=secret", "must have neither ? nor #"),
            ("https://git.example/kit#secret", "must have neither ? nor #"),
        ] {
            let fault = Remote::parse(url).unwrap_err().to_string();
            assert_eq!(fault, format!("the URL of the Git repository {says}"), "{url}");
        }
    }
}
