"""Whatever a configuration says, what is wrong with it is a `ConfigError` with a place, and nothing else is raised."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trove_async.config import Config
from trove_async.config.config import TARGETS
from trove_async.config.making import LAYERS
from trove_async.errors import ConfigError

names = st.sampled_from(["a", "b", "c", "trove://a", "trove://b/x?y=1", "trove://", "memory://", "memory://x", "x", ""])
plain = st.one_of(
    st.integers(-1, 5),
    st.booleans(),
    st.floats(),
    names,
    st.none(),
    st.sampled_from(["${X}", "memory://${HOME}", "\0"]),
)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["env", "file", "path", "use", "x", "bytes"]), inner, max_size=2)
    ),
    max_leaves=4,
)
arguments = st.sampled_from(
    ["attempts", "budget", "concurrency", "hook", "on", "namespace", "limits", "prefix", "attempt", "database", "x"]
)
layers = st.lists(
    values
    | st.sampled_from(LAYERS.names())
    | st.builds(
        lambda name, more: {"use": name, **more},
        st.sampled_from(LAYERS.names()),
        st.dictionaries(arguments, values, max_size=2),
    ),
    max_size=3,
)
overs = st.dictionaries(
    st.sampled_from(["members", "rules", "default", "threshold", "queue", "x"]),
    values | st.lists(names, max_size=2) | st.dictionaries(st.sampled_from(["one", "two"]), names, max_size=2),
    max_size=4,
)
stores = st.fixed_dictionaries(
    {},
    optional={
        "dsn": names | values,
        "layers": layers | values,
        "min_part_size": values,
        "x": values,
        **dict.fromkeys(TARGETS, overs | values),
    },
)
configurations = st.fixed_dictionaries(
    {"stores": st.dictionaries(st.sampled_from(["a", "b", "c"]), stores | values, max_size=3) | values}
)


@given(configurations)
def test_any_configuration_is_read_or_refused(data: dict[str, Any]) -> None:
    try:
        config = Config.load(data)
    except ConfigError:
        return
    for name in config.names:
        config.description(name)
    for error in config.check():
        assert isinstance(error, ConfigError)
        assert error.config_key is not None
        assert error.config_key.startswith("stores.")
