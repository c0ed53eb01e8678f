//! Versions of objects in a bucket that keeps them: what is deleted there is only hidden, and each rewrapped copy lies under
//! the one after it. Listed and deleted one by one, by requests of our own, for the store's library knows of none.
//!
//! ```text
//!  GET    <bucket>?versions&prefix=<key>      ─► <Version> and <DeleteMarker>, each with <Key> and <VersionId>
//!  DELETE <bucket>/<key>?versionId=<id>       ─► that one is gone for good
//! ```

use std::fmt::Write;

use axum::http::{Method, Request, StatusCode};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector};

use super::store::StoreError;
use crate::config::S3;

/// Pages of versions looked at: 1,000 versions each.
const MOST_PAGES: usize = 20;

/// A bucket, to be asked what the library does not ask.
pub(super) struct Bucket {
    client: HttpClient,
    credential: AwsCredential,
    region: String,
    /// Address of the bucket.
    url: String,
}

impl Bucket {
    /// The bucket of `settings`; nothing is sent yet.
    pub(super) fn of(settings: &S3, options: &ClientOptions) -> Result<Self, StoreError> {
        let S3 { bucket, region, endpoint, .. } = settings;
        let options = options.clone().with_allow_http(endpoint.as_ref().is_some_and(|at| at.starts_with("http://")));
        let client =
            ReqwestConnector::default().connect(&options).map_err(|error| StoreError::Settings(error.to_string()))?;
        let at = endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let credential = AwsCredential {
            key_id: settings.access_key.expose().to_owned(),
            secret_key: settings.secret_key.expose().to_owned(),
            token: None,
        };
        Ok(Self { client, credential, region: region.clone(), url: format!("{at}/{bucket}") })
    }

    /// Deletes every version of the object `key`, and sees that none is left. Gives how many there were.
    ///
    /// # Errors
    /// Why some may remain, in words.
    pub(super) async fn delete_versions(&self, key: &str) -> Result<u64, String> {
        let mut deleted = 0;
        for _ in 0..MOST_PAGES {
            let ids = self.versions(key).await?;
            if ids.is_empty() {
                return Ok(deleted);
            }
            for id in ids {
                let at = format!("/{key}?versionId={}", encoded(&id));
                let (status, _) = self.send(Method::DELETE, &at).await?;
                if !status.is_success() {
                    return Err(format!("the bucket answers {status} to the deletion of a version"));
                }
                deleted += 1;
            }
        }
        Err("there are more versions than anybody makes, or they come back".to_owned())
    }

    /// Ids of the versions of `key`, of the first page of them.
    async fn versions(&self, key: &str) -> Result<Vec<String>, String> {
        let (status, text) = self.send(Method::GET, &format!("?prefix={}&versions=", encoded(key))).await?;
        if !status.is_success() {
            return Err(format!("the bucket answers {status} to the question for versions"));
        }
        let known = listed(&text).ok_or("the bucket lists versions in a form that is not known")?;
        Ok(known.into_iter().filter(|(listed, _)| listed == key).map(|(_, id)| id).collect())
    }

    async fn send(&self, method: Method, at: &str) -> Result<(StatusCode, String), String> {
        let told = |error: &dyn std::fmt::Display| format!("the bucket cannot be asked for versions: {error}");
        let request = Request::builder().method(method).uri(format!("{}{at}", self.url));
        let mut request = request.body(HttpRequestBody::empty()).map_err(|error| told(&error))?;
        let authorizer = AwsAuthorizer::new(&self.credential, "s3", &self.region);
        authorizer.try_authorize(&mut request, None).map_err(|error| told(&error))?;
        let response = self.client.execute(request).await.map_err(|error| told(&error))?;
        let status = response.status();
        let bytes = response.into_body().bytes().await.map_err(|error| told(&error))?;
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Key and version of each version and delete marker in a list; nothing when it is no such list.
fn listed(xml: &str) -> Option<Vec<(String, String)>> {
    let (_, list) = xml.split_once("<ListVersionsResult")?;
    let of = |entry: &str, name: &str| {
        let (_, rest) = entry.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once("</")?;
        Some(text.replace("&amp;", "&"))
    };
    let mut found = Vec::new();
    for kind in ["Version", "DeleteMarker"] {
        for entry in list.split(&format!("<{kind}>")).skip(1) {
            let (entry, _) = entry.split_once(&format!("</{kind}>"))?;
            found.push((of(entry, "Key")?, of(entry, "VersionId")?));
        }
    }
    Some(found)
}

/// A value of a query: everything but letters, digits and `-._~` as `%XX`.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_delete_markers_are_read_and_nothing_else_is() {
        let xml = "<?xml version=\"1.0\"?><ListVersionsResult xmlns=\"x\"><Name>b</Name><Prefix>a/k</Prefix>\
            <Version><Key>a/k</Key><VersionId>v&amp;1</VersionId><IsLatest>false</IsLatest></Version>\
            <Version><Key>a/k2</Key><VersionId>v2</VersionId></Version>\
            <DeleteMarker><Key>a/k</Key><VersionId>m1</VersionId></DeleteMarker></ListVersionsResult>";
        let pair = |key: &str, id: &str| (key.to_owned(), id.to_owned());
        assert_eq!(listed(xml), Some(vec![pair("a/k", "v&1"), pair("a/k2", "v2"), pair("a/k", "m1")]));
        assert_eq!(listed("<ListVersionsResult></ListVersionsResult>"), Some(Vec::new()));
        for bad in ["", "<Error><Code>AccessDenied</Code></Error>", "<ListVersionsResult><Version><Key>a", "{}"] {
            assert_eq!(listed(bad), None, "{bad}");
        }
        assert_eq!(encoded("a/b c-._~é"), "a%2Fb%20c-._~%C3%A9");
    }
}
