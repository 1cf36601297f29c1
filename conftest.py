"""Examples in docstrings find the files that they name, in a folder of their own."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Examples compile much for the little they prove: they are left to `make test-slow`."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def example_files(tmp_path_factory):
    """The files that examples name, each made at most once."""
    # Imported late: JAX is configured by then.
    from example_files import ExampleFiles

    return ExampleFiles(tmp_path_factory.mktemp("examples"))


@pytest.fixture(autouse=True)
def _in_a_folder_with_what_the_example_names(request):
    if isinstance(request.node, pytest.DoctestItem):
        files = request.getfixturevalue("example_files")
        folder = request.getfixturevalue("tmp_path")
        source = "".join(example.source for example in request.node.dtest.examples)
        for name in files.names_in(source):
            files.put(name, folder)
        request.getfixturevalue("monkeypatch").chdir(folder)
