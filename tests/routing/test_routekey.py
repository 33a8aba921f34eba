import pytest

from router.routing.routekey import split_uri


@pytest.mark.parametrize(
    ("uri", "key", "context_path"),
    [
        ("app.test", "app.test", "/"),
        ("App.Test/Some/Path", "app.test/some/path", "/Some/Path"),
        ("app.test/", "app.test", "/"),
        ("app.test//", "app.test/", "//"),
        ("/app.test/x/", "app.test/x", "/x/"),
        ("app.test/x?y=/z", "app.test/x", "/x"),
        ("app.test?x/y", "app.test", "/"),
        ("*.app.test/x", "*.app.test/x", "/x"),
        ("app.test:8080", "app.test:8080", "/"),
        ("app.test/%2F/..", "app.test/%2f/..", "/%2F/.."),
        ("#x y", "#x y", "/"),
        ("", "", "/"),
        ("/", "", "/"),
    ],
)
def test_uri_splits_into_key_and_context_path(uri: str, key: str, context_path: str) -> None:
    assert split_uri(uri) == (key, context_path)
