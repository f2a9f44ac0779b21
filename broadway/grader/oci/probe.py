"""The probe of a host: its facts, and if they allow it a container of the grader's own, which is the last proof."""

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from broadway.grader.oci.choice import Facts, shortcomings
from broadway.grader.oci.containers import OciContainers, OciOptions
from broadway.grader.oci.facts import facts_of_host, with_facts_of
from broadway.grader.oci.places import LAYOUT, Place
from broadway.grader.ports import ContainerError, Labels, Limits, Size
from broadway.grader.sandbox.process_identity import own_identity

_SIZE = Size(16 * 1024 * 1024, 1000)


async def probe(program: str, place: Path) -> Facts:
    """Return the facts about this host, with images at ``place`` or, until that exists, in the directory above it."""
    while not place.is_dir():
        place = place.parent
    facts = await asyncio.to_thread(facts_of_host, program)
    if any(shortcomings(facts)) or not os.access(place, os.W_OK):
        return facts
    facts = await asyncio.to_thread(with_facts_of, place, facts)
    return facts if any(shortcomings(facts)) else replace(facts, trial=await _try_out(program, place))


async def _try_out(program: str, place: Path) -> str:
    name = f"probe-{token_hex(4)}"
    with tempfile.TemporaryDirectory(dir=place, prefix="probe-") as directory:
        work_dir = Path(directory)
        options = OciOptions(program=program, place=Place(LAYOUT, work_dir), size=_SIZE)
        try:
            async with OciContainers.connect(
                slots=1, limits=Limits(), work_dir=work_dir, options=options
            ) as containers:
                await containers.try_out(Labels(name, own_identity(), name, name, 0))
        except ContainerError as error:
            return str(error)
    return ""
