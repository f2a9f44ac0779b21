"""One assignment from registration to stored results: the story of the whole system."""

from harness import Cluster, stage


async def test_a_class_is_graded(cluster: Cluster) -> None:
    client = cluster.client
    cluster.graders.start("host1", slots=2)
    await client.register(
        "cs241",
        "mp1",
        pre_processing_pipeline=[stage("print", "preparing")],
        students=[stage("write", "answer", "42"), stage("read", "answer"), stage("env", "STUDENT_ID")],
        post_processing_pipeline=[stage("print", "reporting")],
    )

    run_id = await client.submit("cs241", "mp1", students=5)
    run = await client.finished("cs241", run_id)

    assert run["state"] == "finished"
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 7
    assert [job["phase"] for job in run["jobs"]] == ["pre-processing", *["students"] * 5, "post-processing"]
    students = (await client.status("cs241", run_id))["student_jobs_state"]
    assert set(students.values()) == {"grading job was successful"}
    log = (await client.get(f"grading_job_log/cs241/{list(students)[2]}", token="staff-241")).json()["data"]
    assert "42" in log["stdout"]
    assert log["stdout"].endswith("s2\n")
