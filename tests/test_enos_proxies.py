from __future__ import annotations

import pytest

from flowsched.enos.proxies import Proxy, proxy_for

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128, by_tls=False, authorization=None)),
        ("http://proxy.example", Proxy("proxy.example", 80, by_tls=False, authorization=None)),
        ("https://proxy.example/", Proxy("proxy.example", 443, by_tls=True, authorization=None)),
        ("HTTPS://proxy.example", Proxy("proxy.example", 443, by_tls=True, authorization=None)),
        ("proxy.example:3128", Proxy("proxy.example", 3128, by_tls=False, authorization=None)),
        ("http://[::1]:3128", Proxy("::1", 3128, by_tls=False, authorization=None)),
        ("http://u:p%40w@proxy.example:1", Proxy("proxy.example", 1, False, "Basic dTpwQHc=")),
        ("http://u:%ff@proxy.example:1", Proxy("proxy.example", 1, False, "Basic dTr/")),
        ("http://u@proxy.example:1", Proxy("proxy.example", 1, False, "Basic dTo=")),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, expected: Proxy) -> None:
    assert proxy_for("enos.example", 443, {"https": url}) == expected


def test_the_variable_for_https_goes_before_the_one_for_all() -> None:
    found = proxy_for("enos.example", 443, {"https": PROXY, "all": "socks5://other"})

    assert found is not None
    assert found.host == "proxy.example"


def test_the_variable_for_all_serves_where_there_is_none_for_https() -> None:
    assert proxy_for("enos.example", 443, {"all": PROXY}) is not None
    assert proxy_for("enos.example", 443, {"http": PROXY}) is None
    assert proxy_for("enos.example", 443, {"https": "", "all": ""}) is None


@pytest.mark.parametrize(
    ("host", "entries"),
    [
        ("enos.example", "*"),
        ("enos.example", "other, * "),
        ("enos.example", "enos.example"),
        ("enos.example", "other,, ENOS.example ,"),
        ("enos.example", "example"),
        ("enos.example", ".example"),
        ("enos.example", "enos.example:8443"),
        ("enos.example", "https://enos.example"),
        ("enos.example", "all://enos.example"),
        ("enos.example", "enos.example."),
        ("enos.example", "enos.example.:8443"),
        ("enos.example.", "enos.example"),
        ("enos.example", "*.example"),
        ("enos.example", "*.example:8443"),
        ("localhost", "localhost"),
        ("fd00::7", "[fd00:0:0:0:0:0:0:7]:8443"),
        ("fd00::7", "[FD00:0::7]"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3:8443"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.9.9.9/8"),
        ("fd00::7", "fd00::7"),
        ("fd00::7", "fd00:0::7"),
        ("fd00::7", "[fd00::7]"),
        ("fd00::7", "[fd00::7]:8443"),
        ("fd00::7", "fd00::/16"),
    ],
)
def test_some_hosts_are_called_without_a_proxy(host: str, entries: str) -> None:
    assert proxy_for(host, 8443, {"https": PROXY, "no": entries}) is None


@pytest.mark.parametrize(
    ("host", "entries"),
    [
        ("enos.example", ""),
        ("enos.example", " , "),
        ("enos.example", "nos.example"),
        ("enos.example", ".enos.example"),
        ("enos.example", "api.enos.example"),
        ("enos.example", "*.enos.example"),
        ("enos.example", "*example"),
        ("enos.example", "*.example:443"),
        ("fd00::7", "[fd00:0::7]:443"),
        ("fd00::7", "[fd00:0::8]:8443"),
        ("enos.example", "enos.example:443"),
        ("enos.example", "enos.example:x"),
        ("enos.example", "http://enos.example"),
        ("enos.example", "10.0.0.0/8"),
        ("enos.example", "[::1"),
        ("10.1.2.3", "11.0.0.0/8"),
        ("10.1.2.3", "fd00::/16"),
    ],
)
def test_the_others_are_called_by_the_proxy(host: str, entries: str) -> None:
    assert proxy_for(host, 8443, {"https": PROXY, "no": entries}) is not None


@pytest.mark.parametrize(
    "url",
    [
        "socks5://se:cret@h:1",
        "gopher://secret",
        "http://",
        "http://se:cret@",
        "http://h:secret",
        "http://[secret",
        "http://user:12/secret@h:1",
        "http://user:?secret@h",
        "http://user:1#secret@h",
        "http://user:secret\udcff@h",
        "http://user\udcffcret:p@h",
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_url(url: str) -> None:
    with pytest.raises(ValueError, match="no http:// or https:// URL") as raised:
        proxy_for("enos.example", 443, {"https": url})

    assert "cret" not in str(raised.value)
    assert "udcff" not in str(raised.value)


def test_a_proxy_that_does_not_apply_may_be_unusable() -> None:
    assert proxy_for("enos.example", 443, {"https": "socks5://h:1", "no": "enos.example"}) is None


def test_a_proxy_shows_no_credentials() -> None:
    assert "dTpw" not in repr(proxy_for("h", 443, {"https": "http://u:p@proxy.example"}))
