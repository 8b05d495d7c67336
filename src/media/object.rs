//! Object stores, by the addresses that the configuration names.

use std::{collections::BTreeMap, sync::Arc};

use object_store::{ObjectStore, ObjectStoreScheme, path::Path};
use url::Url;

use super::MediaError;

/// The store that `url` names, and what all names in it begin with; nothing is asked of it yet. What `options` do not
/// say may be in those variables of the environment that its own programs look at.
pub(super) fn open(
    url: &str,
    options: &BTreeMap<String, String>,
) -> Result<(Arc<dyn ObjectStore>, Path), MediaError> {
    let url = Url::parse(url).map_err(|error| MediaError::Place(error.to_string()))?;
    let (scheme, prefix) =
        ObjectStoreScheme::parse(&url).map_err(|error| MediaError::Place(error.to_string()))?;
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => s3(&url, options)?,
        ObjectStoreScheme::GoogleCloudStorage => gcs(&url, options)?,
        ObjectStoreScheme::MicrosoftAzure => azure(&url, options)?,
        _ => {
            let known = "it is written as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX";
            return Err(MediaError::Place(String::from(known)));
        }
    };
    Ok((store, prefix))
}

/// Whether one of these addresses lies below the other.
pub(super) fn is_nested(one: &str, two: &str) -> Result<bool, MediaError> {
    let parse = |url| Url::parse(url).map_err(|error| MediaError::Place(error.to_string()));
    let (one, two) = (parse(one)?, parse(two)?);
    if (one.scheme(), one.host_str(), one.port()) != (two.scheme(), two.host_str(), two.port()) {
        return Ok(false);
    }
    let steps = |url: &Url| -> Vec<String> {
        url.path().split('/').filter(|step| !step.is_empty()).map(String::from).collect()
    };
    let (one, two) = (steps(&one), steps(&two));
    Ok(one.len() != two.len() && (one.starts_with(&two) || two.starts_with(&one)))
}

/// A function that opens one kind of store, where this program was built with its feature.
macro_rules! kind {
    ($name:ident, $feature:tt, $builder:path) => {
        #[cfg(feature = $feature)]
        fn $name(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, MediaError> {
            let mut builder = <$builder>::from_env().with_url(url.as_str());
            for (key, value) in options {
                let known = key.to_ascii_lowercase().parse();
                let known = known.map_err(|_| {
                    MediaError::Place(format!("such a store has no option `{key}` (in `media.options`)"))
                })?;
                builder = builder.with_config(known, value);
            }
            let store = builder.build().map_err(|error| MediaError::Place(error.to_string()))?;
            Ok(Arc::new(store))
        }

        #[cfg(not(feature = $feature))]
        fn $name(_: &Url, _: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, MediaError> {
            let why = concat!("this program was built without it; build it with `--features ", $feature, "`");
            Err(MediaError::Place(String::from(why)))
        }
    };
}

kind!(s3, "s3", object_store::aws::AmazonS3Builder);
kind!(gcs, "gcs", object_store::gcp::GoogleCloudStorageBuilder);
kind!(azure, "azure", object_store::azure::MicrosoftAzureBuilder);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::open;

    #[track_caller]
    fn check(url: &str, options: &[(&str, &str)], expected: Result<&str, &str>) {
        let options: BTreeMap<String, String> =
            options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        match (open(url, &options), expected) {
            (Ok((_, prefix)), Ok(expected)) => assert_eq!(prefix.as_ref(), expected, "{url}"),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{url}: {error}");
            }
            (opened, expected) => panic!("{url}: {opened:?}, not {expected:?}"),
        }
    }

    #[test]
    fn what_is_no_object_store_is_told() {
        check("bucket", &[], Err("media.url"));
        check("ftp://bucket/a", &[], Err("ftp"));
        check("memory:///", &[], Err("s3://BUCKET/PREFIX"));
        check("file:///etc", &[], Err("s3://BUCKET/PREFIX"));
    }

    #[test]
    fn a_store_is_opened_or_the_feature_named() {
        let stores = [
            ("s3://bucket/a/b", "s3", cfg!(feature = "s3"), "aws_region"),
            ("gs://bucket/a/b", "gcs", cfg!(feature = "gcs"), "google_bearer_token"),
            ("az://container/a/b", "azure", cfg!(feature = "azure"), "azure_storage_token"),
        ];
        for (url, feature, is_built, option) in stores {
            let account = ("azure_storage_account_name", "account");
            let account: &[_] = if feature == "azure" { &[account] } else { &[] };
            if !is_built {
                check(url, &[], Err(&format!("--features {feature}`")));
                continue;
            }
            check(url, &[&[(option, "x"), ("allow_http", "true")], account].concat(), Ok("a/b"));
            check(url, &[("acess_key", "x")], Err("no option `acess_key`"));
        }
    }
}
