#!/bin/bash
set -e
mkdir -p /grade/results
python3 /grade/tests/grade.py
