"""Rosters as files: what spreadsheets and people make of them, and the entries that could match nothing."""

import pytest

from broadway.domain.roster import Roster, UnusableRosterError
from broadway.domain.roster_files import RosterError, read_roster

PLAIN = "student,repository,repository_id,NETID\nada,cs/ada,7,a1\nbob,cs/bob,,b1\n"


def csv(text: str) -> Roster:
    return read_roster(text, is_json=False)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("student,repository,repository_id", " Student ,REPOSITORY,Repository ID"),
        PLAIN.replace("repository_id", "repository-id"),
        "\n" + PLAIN.replace("\n", "\n\n"),
        "\n".join(f"{line},," for line in PLAIN.splitlines()),
        PLAIN.replace("\nada,", '\n"ada",'),
        PLAIN + ",,,\n",
    ],
)
def test_the_same_roster_in_the_forms_of_spreadsheets(text: str) -> None:
    assert csv(text) == csv(PLAIN)
    assert csv(text).of_repository(7, "x/y"), "the columns are not lost"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected a header with a column named student"),
        ("name,NETID\nada,a1\n", "line 1: expected a column named student; found name, NETID"),
        ("students\nada\n", "line 1: expected a column named student (did you mean that by students?); found students"),
        ("student,repositry\nada,cs/ada\n", "line 1: column repositry: did you mean repository?"),
        ("student,repositories\nada,cs/ada\n", "line 1: column repositories: did you mean repository?"),
        ("student,NETID\nada\n", "line 2: expected 2 columns, as in the first line, not 1"),
        ("student,NETID\n\nada,1,2\n", "line 3: expected 2 columns, as in the first line, not 3"),
        ("student,,NETID\nada,1,2\n", "line 1: column 2 has no name"),
        ("student,NETID,NETID\nada,1,2\n", "line 1: the column NETID is there twice"),
        ("student" + ",X" * 1000 + "\n", "line 1: expected at most 1000 columns, not 1001"),
        (",".join("X" * 200 for _ in range(900)) + "\n", "found " + ", ".join(["X" * 100] * 20) + ", ..."),
        ("student\n", "line 2: expected a student; the file has a header only"),
        ("student,repository\nada,\nbob,\n", "column repository: no line has a value, so no push would match"),
        ("student,repository_id\nada,seven\n", "students.0.repository_id: should be a whole number"),
        ('student\n"ada\n', "expected CSV: unexpected end of data"),
        ("student\nada\nada\n", "students.1.student: ada is listed twice"),
    ],
)
def test_a_file_that_is_no_roster_is_refused_with_its_line_or_column(text: str, said: str) -> None:
    with pytest.raises(RosterError) as error:
        csv(text)

    assert said in str(error.value)


def test_json_with_an_unknown_key_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(RosterError, match=r"students\.0\.repo_sitory: no such key; did you mean repository\?"):
        read_roster('{"students": [{"student": "ada", "repo_sitory": "cs/ada"}]}', is_json=True)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"student": " ada"}, "students.0.student: has blanks around it"),
        ({"repository": "https://git.example.org/cs/ada"}, "students.0.repository: expected owner/name"),
        ({"repository": "git@git.example.org:cs/ada"}, "students.0.repository: expected owner/name"),
        ({"repository": "cs/ada.git"}, "students.0.repository: expected owner/name"),
        ({"repository": "ada"}, "students.0.repository: expected owner/name"),
        ({"repository": "cs/ada "}, "students.0.repository: expected owner/name"),
    ],
)
def test_an_entry_that_no_submission_can_match_is_refused(entry: dict[str, str], said: str) -> None:
    roster = Roster.model_validate({"students": [{"student": "ada", **entry}]})

    with pytest.raises(UnusableRosterError) as error:
        roster.check_entries()
    assert said in str(error.value)


def test_a_roster_without_repositories_matches_no_push() -> None:
    roster = csv("student,NETID\nada,a1\n")
    roster.check_entries()

    with pytest.raises(UnusableRosterError, match=r"no entry has a repository or repository_id .* the hook git would"):
        roster.check_repositories("git")
    csv(PLAIN).check_repositories("git")


@pytest.mark.parametrize("between", [";", " ; ", ",", ", "])
def test_a_cell_has_several_members_and_labels(between: str) -> None:
    roster = csv(f'student,Members,labels,NETID\ng7,"ada{between}bob","evening{between}",x\neve,,,y\n')

    group, single = roster.students
    assert (group.members, group.labels, group.env) == (("ada", "bob"), ("evening",), {"NETID": "x"})
    assert (single.members, single.labels, single.people) == ((), (), ("eve",))
    assert [getattr(roster.of_person(name), "student", None) for name in ("ada", "eve", "g7")] == ["g7", "eve", None]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"student": "g1", "members": ["ada", "ada"]}], "students.0.members: ada is listed twice"),
        ([{"student": "g1", "members": ["ada"]}, {"student": "g2", "members": ["ada"]}], "ada is listed twice"),
        (
            [{"student": "ada"}, {"student": "g2", "members": ["ada"]}],
            "students.1.members: ada has an entry of its own",
        ),
    ],
)
def test_a_student_is_in_one_entry(entries: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Roster.model_validate({"students": entries})


def test_a_group_may_have_the_name_of_a_member() -> None:
    roster = Roster.model_validate({"students": [{"student": "ada", "members": ["ada", "bob"]}]})

    assert roster.of_person("bob") is roster.of_person("ada") is roster.of_student("ada")


@pytest.mark.parametrize("name", ["=1+1", "@ada", "+cmd", "-x", " =x".strip(), "\N{FULLWIDTH EQUALS SIGN}1", "a\x07b"])
@pytest.mark.parametrize("field", ["student", "members", "labels"])
def test_a_name_that_a_spreadsheet_would_run_is_refused(field: str, name: str) -> None:
    value = name if field == "student" else [name]
    roster = Roster.model_validate({"students": [{"student": "g1", field: value}]})

    with pytest.raises(UnusableRosterError, match=f"students.0.{field}: .* begins like a formula"):
        roster.check_entries()


def test_numbers_are_identifiers() -> None:
    Roster.model_validate({"students": [{"student": "-12"}, {"student": "4711"}]}).check_entries()


def test_a_group_larger_than_the_policy_allows_is_refused() -> None:
    roster = Roster.model_validate({"students": [{"student": "g1", "members": ["ada", "bob", "eve"]}]})

    roster.check_groups(3)
    roster.check_groups(None)
    with pytest.raises(UnusableRosterError, match=r"students.0.members: g1 has 3 members; .* allows 2 \(groups.max\)"):
        roster.check_groups(2)
