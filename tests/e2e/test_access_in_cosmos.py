"""Access rules in Cosmos DB: an account that is away keeps jobs waiting, and loses none."""

from pathlib import Path

from tests.e2e.endings import check_nothing_is_left
from tests.e2e.stage import Stage, opened
from tests.servers import cosmos

DATABASE = "GitHubWebHookDB"
RULES = '{"owner":"mona","repository":"tools","pool":"linux"}\n'
SETTINGS = """
[[pools]]
name = "linux"
max = 2

[access_rules]
backend = "cosmos"
url = "{url}"
key_file = "{key_file}"
"""


async def explained(stage: Stage, job: int) -> str:
    """Why it waits."""
    return (await stage.mayfly("jobs", "explain", str(job))).out


async def test_a_job_that_came_while_the_account_was_away_runs_once_it_is_back(tmp_path: Path):
    key_file = tmp_path / "key"
    key_file.write_text(cosmos.KEY)
    with cosmos.running() as account:
        account.kill()
        pools = SETTINGS.format(url=account.url, key_file=key_file)
        async with opened(pools) as stage:
            plane = await stage.plane()
            await stage.executor()
            job = stage.dispatch("octo-repo", "echo at last")
            await stage.known(job, "queued")
            why = await explained(stage, job)
            assert "pending a check: the access rules cannot be read now" in why
            assert (await stage.mayfly("access", "list")).code == 1
            assert stage.github.mints() == 0

            account.start()
            await account.create(DATABASE)
            await account.put(DATABASE, "AllowOwner", owner="OCTO-org", label="LINUX", team="x")
            await stage.ends(job)
            assert "AllowOwner OCTO-org → LINUX" in await explained(stage, job)
            assert cosmos.KEY not in plane.log.read_text()
            await check_nothing_is_left(stage)


async def test_rules_go_into_the_account_and_out_again(tmp_path: Path):
    key_file, rules = tmp_path / "key", tmp_path / "rules.jsonl"
    key_file.write_text(cosmos.KEY)
    rules.write_text(RULES)
    with cosmos.running() as account:
        await account.create(DATABASE)
        async with opened(SETTINGS.format(url=account.url, key_file=key_file)) as stage:
            await stage.plane()
            job = stage.dispatch("tools", owner="mona")
            await stage.known(job, "queued")
            assert "refused: no access rule" in await explained(stage, job)
            assert (await stage.mayfly("access", "import", str(rules))).out == (
                "1 new, 0 there already\n"
            )
            assert "admitted to pool linux" in await explained(stage, job)
            assert (await stage.mayfly("access", "export")).out == RULES
            (document,) = await account.documents(DATABASE, "AllowRepository")
            assert {**document, "id": ""} == {
                "id": "",
                "owner": "mona",
                "repo": "tools",
                "label": "linux",
            }
