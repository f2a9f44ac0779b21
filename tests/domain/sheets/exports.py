"""Files in the shapes in which learning management systems export them, each with a column for the assignment mp1.

``{ada}``, ``{bob}`` and ``{cyd}`` are places for the cells of that column; quotes belong to the places' values.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Export:
    name: str
    text: str
    encoding: str
    mark: bytes = b""
    named: str = "utf-8"  # the encoding that staff name
    quote: str = ""
    column: str = "mp1"

    def data(self, ada: str, bob: str, cyd: str) -> bytes:
        cells = {"ada": ada, "bob": bob, "cyd": cyd}
        text = self.text
        for name, value in cells.items():
            text = text.replace("{" + name + "}", f"{self.quote}{value}{self.quote}")
        return self.mark + text.encode(self.encoding)


CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,Notes,mp1 (1234),mp2 (1235),Current Score,Final Score
,,,,,,Manual Posting,,,
    Points Possible,,,,,,20.00,10.00,(read only),(read only)
"Lovelace, Ada",101,00246,ada@x.edu,"A, B","said ""=hi"" twice",{ada},3.00,"1.5",2.00
"Çelik, Bob",102,00247,bob@x.edu,A,"two
lines, quoted",{bob},,,
Curie Cyd ,103,,cyd@x.edu,A,plain ,{cyd},EX,,
"Unknown, Eve",199,00999,eve@x.edu,A,,11.00,N/A,,
"Student, Test",200,,0f3a,A,,,,,
"""
GERMAN = CANVAS.replace('"1.5"', '"1,5"').replace(",", ";").replace("; ", ", ").replace("1;5", "1,5")
BLACKBOARD = "".join(
    "\t".join(f'"{cell}"' if not cell.startswith("{") else cell for cell in row) + "\r\n"
    for row in (
        ("Last Name", "First Name", "Username", "Student ID", "Availability", "mp1 [Total Pts: 20 Score] |1344236"),
        ("Lovelace", "Ada", "ada@x.edu", "00246", "Yes", "{ada}"),
        ("Çelik", "Bób 😀", "bob@x.edu", "00247", "Yes", "{bob}"),
        ("Curie", "Cyd", "cyd@x.edu", "00248", "No", "{cyd}"),
        ("Unknown", "Eve", "eve@x.edu", "00999", "Yes", "11"),
    )
)
BRIGHTSPACE = """\
OrgDefinedId,Username,Last Name,First Name,mp1 Points Grade <Numeric MaxPoints:20 Weight:5>,mp2 Points Grade <Numeric \
MaxPoints:9>,Calculated Final Grade Numerator,End-of-Line Indicator
#00246,#ada@x.edu,Lovelace,Ada,{ada},7,1,#
#00247,#bob@x.edu,Çelik,Bob,{bob},,,#
#00248,#cyd@x.edu,Curie,Cyd,{cyd},,,#
#00999,#eve@x.edu,Unknown,Eve,11,,,#
"""
MOODLE = """\
"First name","Last name","ID number","Email address","Assignment: mp1 (Real)","Last downloaded from this course"
Ada,Lovelace,00246,ada@x.edu,{ada},1764500000
Bob,Çelik,00247,bob@x.edu,{bob},1764500000
Cyd,Curie,,cyd@x.edu,{cyd},1764500000
Eve,Unknown,00999,eve@x.edu,-,1764500000
"""
_UTF_8, _LE, _BE = b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"

EXPORTS = [
    Export("canvas", CANVAS, "utf-8"),
    Export("canvas with a mark", CANVAS.replace("\n", "\r\n"), "utf-8", _UTF_8),
    Export("canvas with semicolons", GERMAN, "utf-8", _UTF_8),
    Export("canvas of windows", GERMAN.replace("\n", "\r\n"), "cp1252", named="windows-1252"),
    Export("canvas without a last line end", CANVAS.rstrip("\n"), "utf-8"),
    Export("canvas with old line ends", CANVAS.replace("\n", "\r"), "latin-1", named="latin-1"),
    Export("blackboard", BLACKBOARD, "utf-16-le", _LE, quote='"'),
    Export("blackboard, big-endian", BLACKBOARD, "utf-16-be", _BE, quote='"'),
    Export("blackboard without a mark", BLACKBOARD, "utf-16-le", named="utf-16", quote='"'),
    Export("blackboard with commas", BLACKBOARD.replace("\t", ","), "utf-8", quote='"'),
    Export("brightspace", BRIGHTSPACE, "utf-8", _UTF_8),
    Export("brightspace with line ends of windows", BRIGHTSPACE.replace("\n", "\r\n"), "utf-8"),
    Export("moodle", MOODLE, "utf-8", column="Assignment: mp1"),
]
