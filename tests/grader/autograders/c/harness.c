/* Runs a program that prints the sum of its two arguments, and writes Gradescope's results. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *cases[][2] = {{"1 2", "3"}, {"20 22", "42"}, {"-1 1", "0"}};
    FILE *results = fopen(argv[argc - 1], "w");
    fprintf(results, "{\"execution_time\": 0.5, \"tests\": [");
    for (int i = 0; i < 3; i++) {
        char command[256], line[64] = "";
        snprintf(command, sizeof command, "%s %s", argv[1], cases[i][0]);
        FILE *program = popen(command, "r");
        if (fgets(line, sizeof line, program)) line[strcspn(line, "\n")] = 0;
        pclose(program);
        int ok = !strcmp(line, cases[i][1]);
        fprintf(results, "%s{\"name\": \"%s\", \"score\": %d, \"max_score\": 1}", i ? ", " : "", cases[i][0], ok);
    }
    fprintf(results, "]}\n");
    return fclose(results);
}
