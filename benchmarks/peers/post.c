/* post PORT FLOW: one POST to the loopback server, and its answer read. What yacron and cron fork. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&to, sizeof to) != 0) return 1;
    char body[100], request[400], reply[1000];
    long long minute = (long long)time(NULL) / 60 * 60000;
    int length = snprintf(body, sizeof body, "{\"flowId\":%d,\"triggerTime\":%lld}", atoi(argv[2]), minute);
    int whole = snprintf(request, sizeof request,
                         "POST /fire HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Type: application/json\r\n"
                         "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
                         argv[1], length, body);
    if (write(peer, request, whole) != whole) return 1;
    while (read(peer, reply, sizeof reply) > 0) {}
    return 0;
}
