/* SPDX-License-Identifier: MIT
 *
 * The whole program of each link-<part> target: that it links is the test.
 */
int main(void) {
  return 0;
}
