"""How tests are shared out: files stay together, and every file that is spoken of is there."""

import shares


def test_tests_of_a_file_are_one_share() -> None:
    """Whatever their parameters are; of the files whose tests share nothing each test is one."""
    first, second = (shares.share(f"tests/lab/test_machine.py::{one}") for one in ("test_a[x::y]", "test_b"))
    assert first == second == "tests/lab/test_machine.py"
    first, second = (shares.share(f"tests/system/test_chaos.py::{one}") for one in ("test_a[x]", "test_a[y]"))
    assert first != second


def test_files_that_are_put_first_exist() -> None:
    """A renamed file must not lose its place without a word."""
    named = [*shares.LONGEST_FIRST, *shares.TEST_BY_TEST]
    assert [name for name in named if not (shares.HERE / name).exists()] == []
    ranks = [shares.rank(shares.HERE / name) for name in shares.LONGEST_FIRST]
    assert ranks == sorted(ranks)
    assert shares.rank(shares.HERE / "unit/test_shares.py") > ranks[-1]
