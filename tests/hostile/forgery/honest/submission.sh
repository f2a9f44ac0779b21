#!/bin/sh
cp /job/submission/answer /job/out/answer
