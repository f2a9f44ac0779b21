#!/bin/sh
printf '\377\376{\000"\000s\000"\000:\0001\000}\000' >/job/out/results.json
