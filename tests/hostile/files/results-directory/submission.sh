#!/bin/sh
mkdir /job/results.json
