"""Jobs in the form of the original's protocols, with our additions for graders of ours."""

from broadway.ingest.gateway.handouts import Handout
from broadway.messages.http import JobMessage

STAGES = [{"image": "x"}]


def test_the_originals_graders_get_their_own_two_keys() -> None:
    assert Handout("j1", "e1", STAGES).message == {"grading_job_id": "j1", "stages": STAGES}


def test_graders_of_ours_learn_the_course() -> None:
    message = Handout("j1", "e1", STAGES, "cs1").message
    assert JobMessage.model_validate(message) == JobMessage(grading_job_id="j1", stages=STAGES, course="cs1")


def test_an_earlier_api_names_no_course() -> None:
    assert JobMessage.model_validate({"grading_job_id": "j1", "stages": STAGES}).course == ""
