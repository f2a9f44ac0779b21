#!/bin/sh
mkfifo /job/results.json
