#!/bin/bash
gcc -O2 -o /autograder/harness /autograder/source/harness.c
